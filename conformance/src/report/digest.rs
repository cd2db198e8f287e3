//! SHA-256, for the suite's digest: short enough to keep no dependency for it.

/// The first 32 bits of the fractional parts of the roots of the first primes: `root(p)` is the square root for the
/// initial state, the cube root for the rounds (FIPS 180-4, sections 4.2.2 and 5.3.3).
fn constants<const N: usize>(cube: bool) -> [u32; N] {
    let mut found = [0; N];
    let mut candidate = 1u128;
    for constant in &mut found {
        candidate += 1;
        while (2..candidate).any(|d| candidate.is_multiple_of(d)) {
            candidate += 1;
        }
        // The root of p 2^(32 k), an integer: its low 32 bits are the fraction's first.
        let (mut low, mut high) = (0u128, 1 << 40);
        let target = candidate << if cube { 96 } else { 64 };
        while high - low > 1 {
            let middle = (low + high) / 2;
            let power = if cube { middle.checked_pow(3) } else { middle.checked_pow(2) };
            if power.is_some_and(|power| power <= target) { low = middle } else { high = middle }
        }
        *constant = low as u32;
    }
    found
}

/// The digest in lower-case hexadecimal.
pub(crate) fn sha256(message: &[u8]) -> String {
    let (mut state, k) = (constants::<8>(false), constants::<64>(true));
    let mut padded = message.to_vec();
    padded.push(0x80);
    while padded.len() % 64 != 56 {
        padded.push(0);
    }
    padded.extend((message.len() as u64 * 8).to_be_bytes());
    for block in padded.chunks_exact(64) {
        let mut w = [0u32; 64];
        for (word, b) in w.iter_mut().zip(block.chunks_exact(4)) {
            *word = u32::from_be_bytes([b[0], b[1], b[2], b[3]]);
        }
        for i in 16..64 {
            let s0 = w[i - 15].rotate_right(7) ^ w[i - 15].rotate_right(18) ^ w[i - 15] >> 3;
            let s1 = w[i - 2].rotate_right(17) ^ w[i - 2].rotate_right(19) ^ w[i - 2] >> 10;
            w[i] = w[i - 16].wrapping_add(s0).wrapping_add(w[i - 7]).wrapping_add(s1);
        }
        let [mut a, mut b, mut c, mut d, mut e, mut f, mut g, mut h] = state;
        for i in 0..64 {
            let s1 = e.rotate_right(6) ^ e.rotate_right(11) ^ e.rotate_right(25);
            let choice = (e & f) ^ (!e & g);
            let t1 = h.wrapping_add(s1).wrapping_add(choice).wrapping_add(k[i]).wrapping_add(w[i]);
            let s0 = a.rotate_right(2) ^ a.rotate_right(13) ^ a.rotate_right(22);
            let t2 = s0.wrapping_add((a & b) ^ (a & c) ^ (b & c));
            (h, g, f, e, d, c, b, a) = (g, f, e, d.wrapping_add(t1), c, b, a, t1.wrapping_add(t2));
        }
        for (state, new) in state.iter_mut().zip([a, b, c, d, e, f, g, h]) {
            *state = state.wrapping_add(new);
        }
    }
    state.iter().map(|word| format!("{word:08x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The standard's own examples, and a message that fills its block to the last byte that leaves no room.
    #[test]
    fn known_digests() {
        assert_eq!(sha256(b""), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
        assert_eq!(sha256(b"abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
        assert_eq!(
            sha256(b"abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq"),
            "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1"
        );
    }
}
