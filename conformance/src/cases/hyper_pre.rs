use super::*;
use anychip_core::ops::HyperPre;

#[derive(Clone, Copy)]
struct Spec {
    streams: DType,
    x: DType,
    family: Family,
    scale: [f32; 3],
    /// Mean of the bases.
    base: f32,
    iterations: usize,
    /// `norm_eps` and `eps`.
    eps: [f32; 2],
    sizes: [usize; 3],
}

impl Spec {
    fn build(&self, b: &mut Builder<'_>) -> Result<Op> {
        let [rows, n, d] = self.sizes;
        let mixes = n * (2 + n);
        let streams = b.values(self.streams, &self.sizes, self.family, 1.0)?;
        let mixer = b.values(DType::F32, &[mixes, n * d], Normal, ((n * d) as f32).sqrt().recip())?;
        let base: Vec<f32> = Normal.fill(b.random(), mixes, mixes).iter().map(|x| x + self.base).collect();
        let base = b.floats(DType::F32, &[mixes], &base)?;
        let scale = b.floats(DType::F32, &[3], &self.scale)?;
        let x = b.output(self.x, &[rows, d])?;
        let [post, comb] = [b.output(DType::F32, &[rows, n])?, b.output(DType::F32, &[rows, n, n])?];
        let (iterations, [norm_eps, eps]) = (self.iterations, self.eps);
        HyperPre { streams, mixer, base, scale, iterations, norm_eps, eps, x, post, comb }.build()
    }
}

pub(super) fn list(cases: &mut Cases) {
    let plain = Spec {
        streams: DType::F32,
        x: DType::F32,
        family: Normal,
        scale: [1.0, 0.5, 1.5],
        base: 0.0,
        iterations: 20,
        eps: [1e-6; 2],
        sizes: [3, 4, 48],
    };
    for (profile, variant, spec) in [
        (Quick, "plain", plain),
        (Quick, "plain", Spec { streams: DType::BF16, x: DType::BF16, family: Quiet, sizes: [7, 4, 64], ..plain }),
        (Quick, "plain", Spec { family: Offset, sizes: [2, 3, 33], ..plain }),
        // Softmax rows of almost one entry: the passes that follow have most to do.
        (Quick, "saturated", Spec { family: Outliers, scale: [40.0, -40.0, 8.0], ..plain }),
        // So large that each shows wherever it is added, left out or added twice.
        (Quick, "eps", Spec { eps: [0.3, 0.04], ..plain }),
        (Quick, "eps", Spec { eps: [0.3, 0.04], iterations: 2, sizes: [2, 4, 20], ..plain }),
        (Quick, "one_pass", Spec { iterations: 1, ..plain }),
        (Quick, "one_stream", Spec { sizes: [2, 1, 24], ..plain }),
        (Quick, "sixteen_streams", Spec { sizes: [2, 16, 12], iterations: 3, ..plain }),
        (Quick, "poisoned", Spec { family: Poisoned, sizes: [4, 1, 24], iterations: 3, ..plain }),
        (Quick, "low_scores", Spec { base: -1000.0, ..plain }),
        (Quick, "tile", Spec { sizes: [17, 4, 31], iterations: 2, ..plain }),
        (Quick, "tile", Spec { streams: DType::BF16, x: DType::BF16, sizes: [3, 4, 129], ..plain }),
        (Full, "plain", Spec { streams: DType::BF16, x: DType::BF16, sizes: [4, 4, 4096], ..plain }),
        (Full, "plain", Spec { streams: DType::BF16, x: DType::BF16, family: Outliers, sizes: [3, 4, 7168], ..plain }),
    ] {
        let ([rows, n, d], Spec { streams, x, iterations, .. }) = (spec.sizes, spec);
        let name = format!("{variant}/{streams}-{x}/{}/t{rows}-n{n}-d{d}-i{iterations}", spec.family.name());
        cases.add(profile, name, move |b| spec.build(b));
    }
}
