//! A write that fails loses nothing: the old file stays whole and no temporary file is left. The
//! disk is really full and the size limit really reached, each in a child process.

use std::fs;
use std::io;
use std::path::Path;
use std::process::{Command, Output};

use residua_format::{FormatError, write_whole};

const OLD: &[u8] = b"the old content";
/// Set for a child: the file to write.
const TARGET: &str = "RESIDUA_TEST_TARGET";

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).expect("the folder can be listed");
    let name = |entry: io::Result<fs::DirEntry>| {
        entry.expect("the entry can be read").file_name().to_string_lossy().into_owned()
    };
    entries.map(name).collect()
}

#[test]
fn new_content_replaces_the_old() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("file");
    for content in [OLD, b"", b"new"] {
        write_whole(&path, |file| file.write_all(content)).unwrap();
        assert_eq!(fs::read(&path).unwrap(), content);
        assert_eq!(names(folder.path()), ["file"]);
    }
}

#[cfg(unix)]
#[test]
fn the_file_gets_the_permissions_of_any_new_file() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let (path, plain) = (folder.path().join("file"), folder.path().join("plain"));
    write_whole(&path, |file| file.write_all(OLD)).unwrap();
    fs::write(&plain, OLD).unwrap();
    let mode = |path| fs::metadata(path).unwrap().permissions().mode();
    assert_eq!(mode(&path), mode(&plain));
}

#[cfg(unix)]
#[test]
fn a_link_stays_a_link_and_its_target_is_replaced() {
    use std::os::unix::fs::symlink;
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    fs::create_dir(path("far")).unwrap();
    fs::write(path("far/file"), OLD).unwrap();
    symlink("far/file", path("link")).unwrap();
    symlink("link", path("link to link")).unwrap();
    symlink("far/new", path("dangling")).unwrap();
    for (link, target) in
        [("link", "far/file"), ("link to link", "far/file"), ("dangling", "far/new")]
    {
        write_whole(path(link), |file| file.write_all(link.as_bytes())).unwrap();
        assert!(path(link).is_symlink(), "{link}");
        assert!(!path(target).is_symlink(), "{target}");
        assert_eq!(fs::read(path(target)).unwrap(), link.as_bytes());
    }
    assert_eq!(names(&path("far")).len(), 2);
    symlink("circle", path("circle")).unwrap();
    write_whole(path("circle"), |file| file.write_all(OLD)).unwrap_err();
    assert!(path("circle").is_symlink());
}

#[cfg(unix)]
#[test]
fn what_is_no_regular_file_is_not_replaced() {
    use std::os::unix::fs::{FileTypeExt, symlink};
    let folder = tempfile::tempdir().unwrap();
    let (pipe, null) = (folder.path().join("pipe"), folder.path().join("null"));
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    symlink("/dev/null", &null).unwrap();
    for path in [&pipe, &null] {
        let error = write_whole(path, |file| file.write_all(OLD)).unwrap_err();
        let FormatError::Write { source, .. } = error else { panic!("{error:?}") };
        assert_eq!(source.kind(), io::ErrorKind::InvalidInput);
        assert_eq!(source.to_string(), "not a regular file");
    }
    assert!(fs::metadata(&pipe).unwrap().file_type().is_fifo());
    assert!(null.is_symlink());
    assert_eq!(names(folder.path()).len(), 2);
}

#[test]
fn a_failing_writer_leaves_the_old_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("file");
    fs::write(&path, OLD).unwrap();
    let error = write_whole(&path, |file| {
        file.write_all(b"half of the new con")?;
        Err(io::ErrorKind::StorageFull.into())
    });
    let message = error.unwrap_err().to_string();
    assert!(message.contains("file (the disk is full: free some space"), "{message}");
    assert_eq!(fs::read(&path).unwrap(), OLD);
    assert_eq!(names(folder.path()), ["file"]);
}

#[test]
fn errors_name_the_path_and_the_reason() {
    let folder = tempfile::tempdir().unwrap();
    let missing = folder.path().join("missing").join("file");
    let error = write_whole(&missing, |file| file.write_all(OLD)).unwrap_err();
    let FormatError::Write { path, source } = &error else { panic!("{error:?}") };
    assert_eq!((path, source.kind()), (&missing, io::ErrorKind::NotFound));
    assert!(error.to_string().ends_with("file (the folder does not exist)"), "{error}");

    let error = write_whole(folder.path(), |file| file.write_all(OLD)).unwrap_err();
    assert!(error.to_string().contains(&folder.path().display().to_string()), "{error}");
    assert!(folder.path().is_dir());
    write_whole("..", |file| file.write_all(OLD)).unwrap_err();
}

/// Not a test of its own: what the children below run. It exits with the message as its output.
#[test]
#[ignore = "run as a child process by the tests of this file"]
fn child_writes_a_mebibyte() {
    let target = std::env::var_os(TARGET).expect("set by the parent");
    match write_whole(target, |file| file.write_all(&[7; 1 << 20])) {
        Ok(()) => println!("written"),
        Err(error) => println!("{error}"),
    }
}

/// Runs the child in a shell, between other commands.
fn run_child(shell: &[&str], before: &str, after: &str, target: &Path) -> io::Result<Output> {
    let child = r#""$0" --ignored --exact child_writes_a_mebibyte --nocapture"#;
    let (program, options) = shell.split_first().expect("a program");
    let mut command = Command::new(program);
    command.args(options).arg("-c").arg(format!("{before} && {child} && {after}"));
    command.arg(std::env::current_exe()?).env(TARGET, target).output()
}

#[cfg(unix)]
#[test]
fn a_size_limit_leaves_the_old_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("file");
    fs::write(&path, OLD).unwrap();
    // The signal is ignored, as by a shell's user, so that the write fails instead.
    let output = run_child(&["sh"], "trap '' XFSZ && ulimit -f 64", "true", &path).unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.contains("file (the file would be larger than this process may"), "{output:?}");
    assert_eq!(fs::read(&path).unwrap(), OLD);
    assert_eq!(names(folder.path()), ["file"]);

    // The same child without the limit does write: the limit is what stopped it.
    let output = run_child(&["sh"], "true", "true", &path).unwrap();
    assert!(String::from_utf8_lossy(&output.stdout).contains("written"), "{output:?}");
    assert_eq!(fs::read(&path).unwrap(), [7; 1 << 20]);
}

/// A 64 KiB disk, mounted in a namespace of the child's own and gone with it.
#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_leaves_the_old_file() {
    let folder = tempfile::tempdir().unwrap();
    let namespace = ["unshare", "--map-root-user", "--mount", "sh"];
    let disk = folder.path().display();
    let mount = format!("mount -t tmpfs -o size=64k none {disk} && echo mounted >&2");
    let before = format!("{mount} && printf old > {disk}/file");
    let after = format!("ls -A {disk} && cat {disk}/file");
    let output = match run_child(&namespace, &before, &after, &folder.path().join("file")) {
        Ok(output) if String::from_utf8_lossy(&output.stderr).contains("mounted") => output,
        other => return println!("skipped: no disk can be mounted here: {other:?}"),
    };
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.contains("file (the disk is full: free some space"), "{output:?}");
    assert!(text.ends_with("file\nold"), "{output:?}");
}
