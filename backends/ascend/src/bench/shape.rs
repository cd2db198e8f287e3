//! Shapes as they are written on the command line: `m=64,n=64,dtype=f16`.

use super::BenchError;
use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

/// Sizes and types by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Shape(BTreeMap<String, String>);

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts: Vec<String> = self.0.iter().map(|(name, value)| format!("{name}={value}")).collect();
        f.write_str(&parts.join(","))
    }
}

impl FromStr for Shape {
    type Err = BenchError;

    fn from_str(text: &str) -> Result<Shape, BenchError> {
        let mut all = BTreeMap::new();
        for part in text.split(',').filter(|part| !part.is_empty()) {
            let (name, value) = part.split_once('=').ok_or_else(|| BenchError::Shape {
                problem: format!("a shape is name=value, with commas between; got `{part}`"),
            })?;
            if all.insert(name.to_owned(), value.to_owned()).is_some() {
                return Err(BenchError::Shape { problem: format!("`{name}` is given twice") });
            }
        }
        Ok(Shape(all))
    }
}

impl Shape {
    /// The names and values.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (&**name, &**value))
    }

    /// The same without some names.
    pub fn without(&self, names: &[&str]) -> Shape {
        Shape(
            self.0.iter().filter(|(name, _)| !names.contains(&&***name)).map(|(n, v)| (n.clone(), v.clone())).collect(),
        )
    }

    /// The same with another size.
    pub fn with(mut self, name: &str, size: u32) -> Shape {
        self.0.insert(name.into(), size.to_string());
        self
    }

    /// Makes a size that is given no larger than `most`.
    pub fn at_most(&mut self, name: &str, most: u32) {
        if let Some(size) = self.0.get_mut(name)
            && size.parse::<u32>().is_ok_and(|size| size > most)
        {
            *size = most.to_string();
        }
    }

    /// Finds that no other names than these are given.
    ///
    /// # Errors
    /// [`BenchError::Shape`], with the names that there are.
    pub fn only(&self, names: &[&str]) -> Result<(), BenchError> {
        match self.0.keys().find(|name| !names.contains(&&***name)) {
            None => Ok(()),
            Some(name) => {
                let problem = format!("there is no `{name}` here; there are {}", names.join(", "));
                Err(BenchError::Shape { problem })
            }
        }
    }

    /// A size from 1 to `most`; `default` where it is not given, if there is one.
    ///
    /// # Errors
    /// [`BenchError::Shape`] where it is missing, no number or out of range.
    pub fn size(&self, name: &str, default: Option<u32>, most: u32) -> Result<u32, BenchError> {
        let Some(text) = self.0.get(name) else {
            return default.ok_or_else(|| BenchError::Shape { problem: format!("`{name}` is missing") });
        };
        let size = text.parse().ok().filter(|size| (1..=most).contains(size));
        size.ok_or_else(|| BenchError::Shape {
            problem: format!("`{name}` is a number from 1 to {most}; got `{text}`"),
        })
    }

    /// One of some words; the first where it is not given.
    ///
    /// # Errors
    /// [`BenchError::Shape`] for another word.
    pub fn word<T: Copy>(&self, name: &str, all: &[(&str, T)]) -> Result<T, BenchError> {
        let wanted = self.0.get(name).map(String::as_str);
        let found = all.iter().find(|(word, _)| wanted.is_none_or(|wanted| wanted == *word));
        found.map(|(_, value)| *value).ok_or_else(|| {
            let words: Vec<&str> = all.iter().map(|(word, _)| *word).collect();
            let got = wanted.unwrap_or_default();
            BenchError::Shape { problem: format!("`{name}` is one of {}; got `{got}`", words.join(", ")) }
        })
    }

    /// Rows and columns, `64x1024`.
    ///
    /// # Errors
    /// [`BenchError::Shape`] for anything else.
    pub fn pair(&self, name: &str, default: [u32; 2]) -> Result<[u32; 2], BenchError> {
        let Some(text) = self.0.get(name) else { return Ok(default) };
        let pair = text.split_once('x').and_then(|(a, b)| Some([a.parse().ok()?, b.parse().ok()?]));
        pair.filter(|pair| pair.iter().all(|size| (1..=1 << 16).contains(size))).ok_or_else(|| BenchError::Shape {
            problem: format!("`{name}` is ROWSxCOLS, each from 1 to 65536; got `{text}`"),
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn what_is_wrong_with_a_shape_is_said() {
        let shape: Shape = "m=64,dtype=f16,tile=64x128".parse().unwrap();
        assert_eq!(shape.size("m", None, 100).unwrap(), 64);
        assert_eq!(shape.size("n", Some(7), 100).unwrap(), 7);
        assert_eq!(shape.pair("tile", [1, 1]).unwrap(), [64, 128]);
        let said = |error: BenchError| error.to_string();
        assert!(said(shape.size("n", None, 100).unwrap_err()).contains("`n` is missing"));
        assert!(said(shape.size("m", None, 63).unwrap_err()).contains("from 1 to 63; got `64`"));
        assert!(said(shape.only(&["m", "dtype"]).unwrap_err()).contains("no `tile`"));
        assert!(said(shape.word("dtype", &[("bf16", 0)]).unwrap_err()).contains("one of bf16; got `f16`"));
        assert!(said("m".parse::<Shape>().unwrap_err()).contains("got `m`"));
        assert!(said("m=1,m=2".parse::<Shape>().unwrap_err()).contains("twice"));
    }
}
