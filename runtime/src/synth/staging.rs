//! Files that appear all at once or not at all.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use super::SynthError;

/// Files under temporary names in the target folder; dropped without [`commit`](Staging::commit), it removes them.
pub(super) struct Staging<'a> {
    dir: &'a Path,
    /// Whether the folder was made here, and is removed as well.
    made: bool,
    /// Temporary and final path of every file begun.
    files: Vec<(PathBuf, PathBuf)>,
    committed: bool,
}

impl<'a> Staging<'a> {
    pub(super) fn begin(dir: &'a Path) -> Result<Staging<'a>, SynthError> {
        let failed = |doing| move |source: io::Error| SynthError::Io { file: dir.to_owned(), doing, source };
        let made = match fs::metadata(dir) {
            Ok(found) if !found.is_dir() => return Err(SynthError::NotAFolder { dir: dir.to_owned() }),
            Ok(_) => {
                if let Some(entry) = fs::read_dir(dir).map_err(failed("list the folder"))?.next() {
                    let entry = entry.map_err(failed("list the folder"))?;
                    let found = entry.file_name().to_string_lossy().into_owned();
                    return Err(SynthError::NotEmpty { dir: dir.to_owned(), found });
                }
                false
            }
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                fs::create_dir_all(dir).map_err(failed("create the folder"))?;
                true
            }
            Err(e) => return Err(failed("look at the folder")(e)),
        };
        Ok(Staging { dir, made, files: Vec::new(), committed: false })
    }

    /// A new file that will be called `name`; the path is that of now.
    pub(super) fn create(&mut self, name: &str) -> Result<(PathBuf, File), SynthError> {
        let path = self.dir.join(format!(".{name}.partial"));
        let file = File::create_new(&path).map_err(|source| SynthError::Io {
            file: path.clone(),
            doing: "create the file",
            source,
        })?;
        self.files.push((path.clone(), self.dir.join(name)));
        Ok((path, file))
    }

    pub(super) fn write(&mut self, name: &str, text: &str) -> Result<(), SynthError> {
        let (file, mut handle) = self.create(name)?;
        handle.write_all(text.as_bytes()).map_err(|source| SynthError::Io { file, doing: "write", source })
    }

    /// Gives all files their names, in the order in which they were created.
    pub(super) fn commit(mut self) -> Result<(), SynthError> {
        for (from, to) in &self.files {
            fs::rename(from, to).map_err(|source| SynthError::Io { file: to.clone(), doing: "rename", source })?;
        }
        self.committed = true;
        Ok(())
    }
}

impl Drop for Staging<'_> {
    fn drop(&mut self) {
        if !self.committed {
            // The folder was empty, so both names are ours. What cannot be removed still opens as no checkpoint.
            for path in self.files.iter().flat_map(|(from, to)| [from, to]) {
                let _ = fs::remove_file(path);
            }
            if self.made {
                let _ = fs::remove_dir(self.dir);
            }
        }
    }
}
