//! Where results go: text for people, one JSON document for scripts, files that appear whole or not at all.

use crate::error::Failure;
use serde::Serialize;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use tempfile::NamedTempFile;

/// A line on standard error. Where that is closed there is nobody to tell.
pub(crate) fn note(text: &str) {
    let _ = writeln!(io::stderr(), "{text}");
}

/// The outputs of a command.
pub(crate) struct Output {
    json: Option<Target>,
    closed: bool,
}

enum Target {
    Stdout,
    File(Report),
}

impl Output {
    /// Prepares to write. A JSON file is begun now, so that a place that cannot be written is found before the work.
    pub(crate) fn begin(json: Option<&Path>) -> Result<Output, Failure> {
        let json = match json {
            None => None,
            Some(path) if path == Path::new("-") => Some(Target::Stdout),
            Some(path) => Some(Target::File(Report::begin(path)?)),
        };
        Ok(Output { json, closed: false })
    }

    /// Text for people, as it is; left out when the JSON document goes to standard output.
    pub(crate) fn print(&mut self, text: &str) -> Result<(), Failure> {
        if matches!(self.json, Some(Target::Stdout)) { Ok(()) } else { self.write(text.as_bytes()) }
    }

    /// A line of text for people.
    pub(crate) fn line(&mut self, text: &str) -> Result<(), Failure> {
        self.print(&format!("{text}\n"))
    }

    /// Whether whoever read standard output closed it. They have seen enough: that is no failure of the command.
    pub(crate) fn closed(&self) -> bool {
        self.closed
    }

    /// Writes the document, if one was asked for.
    pub(crate) fn finish(mut self, document: &impl Serialize) -> Result<(), Failure> {
        let Some(target) = self.json.take() else {
            return Ok(());
        };
        let mut text = serde_json::to_string(document).map_err(Failure::Json)?;
        text.push('\n');
        match target {
            Target::Stdout => self.write(text.as_bytes()),
            Target::File(report) => report.finish(text.as_bytes()),
        }
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        let mut stdout = io::stdout().lock();
        match stdout.write_all(bytes).and_then(|()| stdout.flush()) {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => self.closed = true,
            other => other.map_err(|source| Failure::Stdout { source })?,
        }
        Ok(())
    }
}

/// A report's file: written beside its place and renamed, so that an older report is replaced whole or stays.
pub(crate) struct Report {
    file: PathBuf,
    to: Begun,
}

enum Begun {
    Beside(NamedTempFile),
    /// A pipe or a device (`/dev/null`), which a rename would replace.
    Direct(File),
}

impl Report {
    /// Begins the file.
    ///
    /// # Errors
    /// [`Failure::Report`] where it cannot be.
    pub(crate) fn begin(path: &Path) -> Result<Report, Failure> {
        let failed = |source| Failure::Report { file: path.into(), source };
        // Through a link, the file that it points to is replaced, not the link.
        let file = fs::canonicalize(path).unwrap_or_else(|_| path.into());
        let to = match fs::metadata(&file) {
            Ok(found) if found.is_dir() => return Err(failed(io::ErrorKind::IsADirectory.into())),
            Ok(found) if !found.is_file() => Begun::Direct(File::options().write(true).open(&file).map_err(failed)?),
            Ok(found) => {
                // Refused here as writing over it would be, though a rename would not.
                File::options().write(true).open(&file).map_err(failed)?;
                Begun::Beside(beside(&file, Some(found.permissions())).map_err(failed)?)
            }
            Err(_) => Begun::Beside(beside(&file, None).map_err(failed)?),
        };
        Ok(Report { file, to })
    }

    /// Writes the contents and gives the file its name.
    ///
    /// # Errors
    /// [`Failure::Report`]; what was there before is still there.
    pub(crate) fn finish(self, contents: &[u8]) -> Result<(), Failure> {
        let Report { file, to } = self;
        let result = match to {
            Begun::Direct(mut to) => to.write_all(contents).and_then(|()| to.flush()),
            Begun::Beside(mut to) => to
                .write_all(contents)
                .and_then(|()| to.as_file().sync_all())
                .and_then(|()| to.persist(&file).map(drop).map_err(|error| error.error)),
        };
        match result {
            Err(source) if source.kind() != io::ErrorKind::BrokenPipe => Err(Failure::Report { file, source }),
            _ => Ok(()),
        }
    }
}

/// A temporary file in the folder of `file`, with the permissions that the finished one has.
fn beside(file: &Path, permissions: Option<fs::Permissions>) -> io::Result<NamedTempFile> {
    let folder = match file.parent() {
        Some(folder) if folder != Path::new("") => folder,
        _ => Path::new("."),
    };
    // Looked at first: the error of a missing folder would speak of the temporary name.
    if !fs::metadata(folder)?.is_dir() {
        return Err(io::ErrorKind::NotADirectory.into());
    }
    let mut builder = tempfile::Builder::new();
    builder.prefix(".anychip-").suffix(".partial");
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        // Else it would be private to its owner; the process's umask still applies.
        builder.permissions(permissions.unwrap_or_else(|| fs::Permissions::from_mode(0o666)));
    }
    #[cfg(not(unix))]
    drop(permissions);
    builder.tempfile_in(folder)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_report_replaces_the_old_one_only_when_it_is_whole() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("report.json");
        fs::write(&file, "old").unwrap();
        drop(Report::begin(&file).unwrap());
        assert_eq!(fs::read_to_string(&file).unwrap(), "old");
        Report::begin(&file).unwrap().finish(b"new").unwrap();
        assert_eq!(fs::read_to_string(&file).unwrap(), "new");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "no temporary file is left");
    }

    #[cfg(unix)]
    #[test]
    fn links_and_devices_stay_what_they_are() {
        let dir = tempfile::tempdir().unwrap();
        let (file, link) = (dir.path().join("report.json"), dir.path().join("link.json"));
        fs::write(&file, "old").unwrap();
        std::os::unix::fs::symlink(&file, &link).unwrap();
        Report::begin(&link).unwrap().finish(b"new").unwrap();
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(fs::read_to_string(&file).unwrap(), "new");
        Report::begin(Path::new("/dev/null")).unwrap().finish(b"gone").unwrap();
        assert!(!fs::metadata("/dev/null").unwrap().is_file());
        let full = Report::begin(Path::new("/dev/full")).unwrap().finish(b"x").unwrap_err().to_string();
        assert!(full.contains("/dev/full") && full.contains("free space"), "{full}");
    }

    #[test]
    fn a_place_that_cannot_be_written_is_found_at_the_beginning() {
        let dir = tempfile::tempdir().unwrap();
        let refused = |path: &Path| Report::begin(path).map(drop).unwrap_err().to_string();
        assert!(
            refused(&dir.path().join("none/report.json"))
                .contains("none/report.json: cannot write the report: No such file or directory (os error 2); name")
        );
        assert!(refused(dir.path()).contains("not a folder"));
        fs::write(dir.path().join("file"), "").unwrap();
        assert!(refused(&dir.path().join("file/report.json")).contains("cannot write the report"));
    }
}
