//! Profiles of chips: what the simulator knows of a machine.
//!
//! A profile is a data file. It may be the whole of a machine, or name another as its base and say what differs. Nothing in
//! the simulator has a figure of its own.
//!
//! ```
//! use anychip_ascend::machine::{CubeType, Profile};
//!
//! let chip = Profile::open("950dt")?;
//! assert_eq!(chip.peak(CubeType::Fp8).map(|peak| (peak / 1e12).round()), Some(865.0));
//! let own = Profile::parse("fewer", "base = \"950dt\"\ntitle = \"24 cores\"\n[figures]\n\
//!     cube_cores = { value = 24, unit = \"cores\", confidence = \"L\", source = \"what if\" }")?;
//! assert!(own.peak(CubeType::F16) < chip.peak(CubeType::F16));
//! # Ok::<(), anychip_ascend::machine::ProfileError>(())
//! ```

mod figures;
mod space;

pub use figures::{Confidence, FIGURES, Figure, Figures};
pub use space::{Path, Space};

use crate::layout::Layout;
use serde::Deserialize;
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, BTreeSet};

/// Names and files of the profiles that come with the crate.
const PROFILES: [(&str, &str); 7] = [
    ("950dt", include_str!("profiles/950dt.toml")),
    ("950pr", include_str!("profiles/950pr.toml")),
    ("950pr-28", include_str!("profiles/950pr-28.toml")),
    ("910b", include_str!("profiles/910b.toml")),
    ("910b-20", include_str!("profiles/910b-20.toml")),
    ("910c", include_str!("profiles/910c.toml")),
    ("a3", include_str!("profiles/a3.toml")),
];

/// Why there is no profile.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ProfileError {
    /// No profile of this name comes with the crate.
    #[error("there is no Ascend profile `{name}`; there are {known}")]
    Unknown {
        /// The name asked for.
        name: String,
        /// All names.
        known: String,
    },
    /// The file is no profile.
    #[error("profile `{name}`: {problem}")]
    Malformed {
        /// The profile.
        name: String,
        /// What is wrong, with the rule and what was given.
        problem: String,
    },
}

/// The generation of a chip: which instructions and paths there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize)]
pub enum Arch {
    /// 910B and 910C: `dav-2201`.
    #[serde(rename = "2201")]
    V2201,
    /// 950: `dav-3510`.
    #[serde(rename = "3510")]
    V3510,
}

/// Element types that the cube multiplies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CubeType {
    /// IEEE binary16.
    F16,
    /// bfloat16.
    BF16,
    /// Signed bytes, summed in 32-bit integers.
    Int8,
    /// e4m3 or e5m2, with MX scales or without; HiF8 without, at the same rate.
    Fp8,
    /// e2m1, with MX scales.
    Fp4,
    /// IEEE binary32.
    F32,
}

/// A machine.
#[derive(Clone, Debug, PartialEq)]
pub struct Profile {
    /// Its name in `ascend:NAME`.
    pub name: String,
    /// Which chip it is, in words.
    pub title: String,
    /// Its generation.
    pub arch: Arch,
    /// Rows, depth and columns that the cube multiplies in one cycle.
    pub cube: BTreeMap<CubeType, [u32; 3]>,
    /// Layouts that matrices have in each memory of the cube.
    pub layouts: BTreeMap<Space, Layout>,
    /// Transfers that there are.
    pub paths: BTreeSet<Path>,
    /// The figures, as numbers.
    pub figures: Figures,
    /// The figures, with their provenance.
    pub provenance: BTreeMap<String, Figure>,
}

/// A file, before its base is put under it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    base: Option<String>,
    title: String,
    arch: Option<Arch>,
    paths: Option<BTreeSet<Path>>,
    layouts: Option<BTreeMap<Space, Layout>>,
    cube: Option<BTreeMap<CubeType, [u32; 3]>>,
    #[serde(default)]
    figures: BTreeMap<String, Figure>,
    /// What the figures' sources stand for. For readers.
    #[serde(default, rename = "sources")]
    _sources: BTreeMap<String, String>,
}

impl Profile {
    /// Names of the profiles that come with the crate.
    pub fn names() -> impl Iterator<Item = &'static str> {
        PROFILES.iter().map(|(name, _)| *name)
    }

    /// The profile of a name.
    ///
    /// # Errors
    /// [`ProfileError::Unknown`], with the names that there are.
    pub fn open(name: &str) -> Result<Profile, ProfileError> {
        match PROFILES.iter().find(|(known, _)| *known == name) {
            Some((_, text)) => Profile::parse(name, text),
            None => Err(unknown(name)),
        }
    }

    /// A profile from a file of one's own. Its base may be any profile of the crate.
    ///
    /// # Errors
    /// [`ProfileError::Malformed`]: a figure that is missing, unknown, in another unit or out of range; a base without a
    /// profile, or one that has itself as its base.
    pub fn parse(name: &str, text: &str) -> Result<Profile, ProfileError> {
        let malformed = |problem: String| ProfileError::Malformed { name: name.into(), problem };
        let file: File = toml::from_str(text).map_err(|error| malformed(error.to_string().trim_end().into()))?;
        let base = match file.base {
            Some(base) if base == name => return Err(malformed("it is its own base".into())),
            Some(base) => Some(Profile::open(&base)?),
            None => None,
        };
        let missing = |what: &str| malformed(format!("`{what}` is missing, and there is no base to take it from"));
        let base = base.as_ref();
        let mut provenance = base.map(|base| base.provenance.clone()).unwrap_or_default();
        provenance.extend(file.figures);
        let profile = Profile {
            name: name.into(),
            title: file.title,
            arch: file.arch.or(base.map(|base| base.arch)).ok_or_else(|| missing("arch"))?,
            cube: file.cube.or_else(|| Some(base?.cube.clone())).ok_or_else(|| missing("cube"))?,
            layouts: file.layouts.or_else(|| Some(base?.layouts.clone())).ok_or_else(|| missing("layouts"))?,
            paths: file.paths.or_else(|| Some(base?.paths.clone())).ok_or_else(|| missing("paths"))?,
            figures: Figures::of(&provenance).map_err(malformed)?,
            provenance,
        };
        if let Some((kind, extents)) = profile.cube.iter().find(|(_, extents)| extents.contains(&0)) {
            return Err(malformed(format!(
                "`cube` must have 1 or more in each direction for {kind:?}, got {extents:?}"
            )));
        }
        Ok(profile)
    }

    /// The same machine with one figure multiplied, for how much a result depends on it.
    ///
    /// # Errors
    /// [`ProfileError::Malformed`] where there is no such figure, or the product is out of its range.
    pub fn scaled(&self, figure: &str, factor: f64) -> Result<Profile, ProfileError> {
        let malformed = |problem: String| ProfileError::Malformed { name: self.name.clone(), problem };
        let mut scaled = self.clone();
        let found = scaled.provenance.get_mut(figure);
        found.ok_or_else(|| malformed(format!("there is no figure `{figure}`")))?.value *= factor;
        scaled.figures = Figures::of(&scaled.provenance).map_err(malformed)?;
        Ok(scaled)
    }

    /// Figures that are guessed: what a report has to vary.
    pub fn guessed(&self) -> impl Iterator<Item = &str> {
        self.provenance.iter().filter(|(_, figure)| figure.confidence == Confidence::Guessed).map(|(name, _)| &**name)
    }

    /// Operations per second of the whole cube, a multiply and an add being two; `None` for types that it has not.
    pub fn peak(&self, dtype: CubeType) -> Option<f64> {
        let per_cycle: f64 = self.cube.get(&dtype)?.iter().map(|&n| f64::from(n)).product();
        Some(2.0 * per_cycle * self.figures.cube_cores * self.figures.clock * 1e9)
    }

    /// Sixteen digits that differ wherever anything differs that results depend on. Titles and sources do not count.
    pub fn hash(&self) -> String {
        let mut text = format!("{:?} {:?} {:?} {:?}", self.arch, self.cube, self.layouts, self.paths);
        for (name, figure) in &self.provenance {
            text += &format!(" {name}={:016x}", figure.value.to_bits());
        }
        Sha256::digest(text.as_bytes()).iter().take(8).map(|byte| format!("{byte:02x}")).collect()
    }
}

fn unknown(name: &str) -> ProfileError {
    ProfileError::Unknown { name: name.into(), known: Profile::names().collect::<Vec<_>>().join(", ") }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::float_cmp)]
    use super::*;

    #[test]
    fn every_profile_is_whole_and_unlike_the_others() {
        let all: Vec<Profile> = Profile::names().map(|name| Profile::open(name).unwrap()).collect();
        for profile in &all {
            assert_eq!(profile.provenance.len(), FIGURES.len(), "{}", profile.name);
            assert!(profile.guessed().count() > 0, "{} guesses nothing?", profile.name);
        }
        let hashes: BTreeSet<String> = all.iter().map(Profile::hash).collect();
        // The die that 910b is, under the name of its package.
        assert_eq!(hashes.len(), all.len() - 1);
        assert_eq!(Profile::open("a3").unwrap().hash(), Profile::open("910b").unwrap().hash());
    }

    /// Cores x 2 x M x K x N x clock, as the vendor's announcements have it.
    #[test]
    fn peaks_are_those_announced() {
        let tera =
            |name: &str, dtype| Profile::open(name).unwrap().peak(dtype).map(|peak| (peak / 1e11).round() / 10.0);
        assert_eq!(tera("950dt", CubeType::F16), Some(432.5));
        assert_eq!(tera("950pr", CubeType::Fp8), Some(865.1));
        assert_eq!(tera("950pr", CubeType::Fp4), Some(1730.2));
        assert_eq!(tera("950pr-28", CubeType::F16), Some(378.5));
        assert_eq!(tera("910b", CubeType::F16), Some(363.7));
        assert_eq!(tera("910b", CubeType::Int8), Some(727.4));
        assert_eq!(tera("910c", CubeType::F16), Some(353.9));
        assert_eq!(tera("910b", CubeType::Fp8), None);
    }

    #[test]
    fn generations_differ_where_they_do() {
        let [old, new] = ["910b", "950dt"].map(|name| Profile::open(name).unwrap());
        let path = |from, to| Path { from, to };
        for removed in [path(Space::Gm, Space::L0a), path(Space::Gm, Space::L0b), path(Space::L1, Space::Gm)] {
            assert!(old.paths.contains(&removed) && !new.paths.contains(&removed), "{removed}");
        }
        for added in [path(Space::L0c, Space::Ub), path(Space::Ub, Space::L1)] {
            assert!(!old.paths.contains(&added) && new.paths.contains(&added), "{added}");
        }
        assert_eq!((old.layouts[&Space::L0a], new.layouts[&Space::L0a]), (Layout::Zz, Layout::Nz));
    }

    #[test]
    fn what_is_wrong_with_a_file_is_said() {
        let figure = |name: &str, value: &str, unit: &str| {
            format!(
                "base = \"950dt\"\ntitle = \"own\"\n[figures]\n\
                 {name} = {{ value = {value}, unit = \"{unit}\", confidence = \"H\", source = \"me\" }}\n"
            )
        };
        for (text, said) in [
            (figure("clock", "1.7", "MHz"), "`clock` must be in GHz, got MHz"),
            (figure("clock", "-1.0", "GHz"), "`clock` must be 0.001 or more and finite, got -1"),
            (figure("clock", "nan", "GHz"), "`clock` must be 0.001 or more and finite, got NaN"),
            (figure("flag", "-1.0", "cycles"), "`flag` must be 0 or more and finite, got -1"),
            (figure("clock", "0.0", "GHz"), "`clock` must be 0.001 or more and finite, got 0"),
            (figure("cube_cores", "0", "cores"), "`cube_cores` must be 1 or more and finite, got 0"),
            (figure("vector_width", "0", "bytes"), "`vector_width` must be 1 or more and finite, got 0"),
            (figure("l0_align", "8", "bytes"), "`l0_align` must be 16 or more and finite, got 8"),
            (
                "base = \"950dt\"\ntitle = \"own\"\n[cube]\nf16 = [16, 0, 16]".into(),
                "`cube` must have 1 or more in each direction for F16, got [16, 0, 16]",
            ),
            (figure("clok", "1.7", "GHz"), "there is no figure `clok`"),
            ("title = \"own\"".into(), "`arch` is missing"),
            ("base = \"own\"\ntitle = \"own\"".into(), "its own base"),
            ("base = \"950dt\"\ntitle = \"own\"\npaths = [\"gm-moon\"]".into(), "gm-moon"),
            ("titel = \"own\"".into(), "titel"),
        ] {
            let error = Profile::parse("own", &text).unwrap_err().to_string();
            assert!(error.starts_with("profile `own`: ") && error.contains(said), "{error}");
        }
        let error = Profile::parse("own", "base = \"960\"\ntitle = \"own\"").unwrap_err().to_string();
        assert_eq!(
            error,
            "there is no Ascend profile `960`; there are 950dt, 950pr, 950pr-28, 910b, 910b-20, 910c, a3"
        );
    }

    #[test]
    fn a_figure_can_be_varied() {
        let profile = Profile::open("950dt").unwrap();
        let varied = profile.scaled("flag", 1.5).unwrap();
        assert_eq!((varied.figures.flag, varied.figures.clock), (15.0, 1.65));
        assert_ne!(varied.hash(), profile.hash());
        let none = profile.scaled("cube_cores", 0.0).unwrap_err().to_string();
        assert!(none.contains("`cube_cores` must be 1 or more and finite, got 0"), "{none}");
        assert!(profile.scaled("flags", 1.5).unwrap_err().to_string().contains("no figure `flags`"));
    }
}
