//! `install.sh` with a real shell, in an empty home, with a stand-in for the program: what is built
//! needs four minutes, and is `.ci/run`'s to show.
#![cfg(unix)]
#![expect(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

struct Home {
    folder: tempfile::TempDir,
}

impl Home {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("home")).unwrap();
        let binary = folder.path().join("built");
        fs::write(
            &binary,
            format!("#!/bin/sh\necho \"$PWD: $*\" >>'{}'\n", folder.path().join("calls").display()),
        )
        .unwrap();
        fs::set_permissions(&binary, fs::Permissions::from_mode(0o755)).unwrap();
        Self { folder }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().canonicalize().unwrap().join(name)
    }

    fn agent(&self) -> PathBuf {
        self.path("home/.local/bin/gitops-agent")
    }

    fn command(&self, directory: &Path, arguments: &[&str]) -> Command {
        let mut command = Command::new("sh");
        command
            .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("install.sh"))
            .args(arguments)
            .current_dir(directory)
            .env("HOME", self.path("home"))
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .env("GIT_CEILING_DIRECTORIES", self.path(""))
            .env_remove("GITOPS_AGENT_BIN_DIR")
            .env_remove("GITOPS_AGENT_HOME")
            .env_remove("XDG_DATA_HOME");
        command
    }

    fn run(&self, directory: &Path, arguments: &[&str]) -> Output {
        self.command(directory, arguments).output().unwrap()
    }

    /// Installs with the stand-in, and returns what was printed.
    fn install(&self, directory: &Path, arguments: &[&str]) -> String {
        let binary = self.path("built");
        let all: Vec<_> = ["--binary", binary.to_str().unwrap()].iter().chain(arguments).copied().collect();
        let output = self.run(directory, &all);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    fn repository(&self) -> PathBuf {
        let path = self.path("repository");
        assert!(Command::new("git").args(["init", "-q"]).arg(&path).status().unwrap().success());
        path
    }

    fn calls(&self) -> String {
        fs::read_to_string(self.path("calls")).unwrap_or_default()
    }

    fn home_files(&self) -> Vec<String> {
        let mut names: Vec<_> = fs::read_dir(self.path("home"))
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }
}

/// Whether a login shell with this home finds the program.
fn found_on_path(home: &Home) -> bool {
    Command::new("sh")
        .args(["-c", ". \"$HOME/.profile\" && command -v gitops-agent"])
        .env("HOME", home.path("home"))
        .output()
        .unwrap()
        .stdout
        .starts_with(home.agent().to_str().unwrap().as_bytes())
}

#[test]
fn installs_into_the_callers_repository_and_puts_the_program_on_path() {
    let home = Home::new();
    let repository = home.repository();
    home.install(&repository, &[]);
    assert_eq!(fs::metadata(home.agent()).unwrap().permissions().mode() & 0o777, 0o555);
    assert!(home.calls().ends_with(&format!("{}: install\n", repository.display())), "{}", home.calls());
    assert!(found_on_path(&home));
}

#[test]
fn a_second_run_changes_nothing_and_takes_a_newer_program() {
    let home = Home::new();
    let repository = home.repository();
    home.install(&repository, &[]);
    let profile = fs::read(home.path("home/.profile")).unwrap();
    fs::write(home.path("built"), "#!/bin/sh\necho newer\n").unwrap();
    home.install(&repository, &[]);
    assert_eq!(fs::read(home.path("home/.profile")).unwrap(), profile);
    assert_eq!(fs::read_to_string(home.agent()).unwrap(), "#!/bin/sh\necho newer\n");
    assert_eq!(fs::read_dir(home.agent().parent().unwrap()).unwrap().count(), 1, "no temporary file stays");
}

#[test]
fn outside_a_repository_it_says_so_and_goes_on() {
    let home = Home::new();
    let printed = home.install(&home.path("home"), &[]);
    assert!(printed.contains("not inside a Git repository"), "{printed}");
    assert!(home.agent().exists());
    assert!(!home.calls().contains("install"), "{}", home.calls());
}

#[test]
fn global_is_handed_on() {
    let home = Home::new();
    home.install(&home.path("home"), &["--global"]);
    assert!(home.calls().ends_with(": install --global\n"), "{}", home.calls());
}

#[test]
fn uninstall_leaves_start_files_as_they_were() {
    let home = Home::new();
    let repository = home.repository();
    let bashrc = "alias ll='ls -l'\n\n\necho hello\n\n";
    fs::write(home.path("home/dotfile"), bashrc).unwrap();
    fs::set_permissions(home.path("home/dotfile"), fs::Permissions::from_mode(0o600)).unwrap();
    std::os::unix::fs::symlink("dotfile", home.path("home/.bashrc")).unwrap();
    fs::write(home.path("home/.zshrc"), "").unwrap();
    home.install(&repository, &[]);
    home.install(&repository, &[]);
    assert_ne!(fs::read_to_string(home.path("home/dotfile")).unwrap(), bashrc);

    let output = home.run(&repository, &["--uninstall"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let printed = String::from_utf8(output.stdout).unwrap();
    assert!(printed.contains("your records stay in "), "{printed}");
    assert!(
        home.calls().ends_with(&format!("{0}: uninstall --global\n{0}: uninstall\n", repository.display()))
    );
    assert!(!home.agent().exists());
    assert_eq!(fs::read_to_string(home.path("home/dotfile")).unwrap(), bashrc);
    assert_eq!(fs::metadata(home.path("home/dotfile")).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(fs::read(home.path("home/.zshrc")).unwrap(), b"");
    assert_eq!(home.home_files(), [".bashrc", ".local", ".zshrc", "dotfile"]);
    assert!(home.run(&repository, &["--uninstall"]).status.success(), "safe to repeat");
}

#[test]
fn no_modify_path_leaves_start_files_alone() {
    let home = Home::new();
    home.install(&home.path("home"), &["--no-modify-path"]);
    assert_eq!(home.home_files(), [".local"]);
}

#[test]
fn another_folder_with_odd_characters() {
    let home = Home::new();
    let folder = home.path("it's a \"bin\"");
    let binary = home.path("built");
    let output = home
        .command(&home.path("home"), &["--binary", binary.to_str().unwrap()])
        .env("GITOPS_AGENT_BIN_DIR", &folder)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let found = Command::new("sh")
        .args(["-c", ". \"$HOME/.profile\" && command -v gitops-agent"])
        .env("HOME", home.path("home"))
        .output()
        .unwrap();
    assert_eq!(
        String::from_utf8_lossy(&found.stdout).trim_end(),
        folder.join("gitops-agent").to_str().unwrap()
    );
}

/// Exit code and error text of a run that must fail.
fn failure(command: &mut Command) -> (Option<i32>, String) {
    let output = command.output().unwrap();
    assert!(!output.status.success());
    (output.status.code(), String::from_utf8(output.stderr).unwrap())
}

#[test]
fn errors_say_what_to_do() {
    let home = Home::new();
    let here = home.path("home");
    let (code, text) = failure(home.command(&here, &[]).env_remove("HOME"));
    assert!(code == Some(2) && text.contains("HOME is not set"), "{text}");
    let (code, text) = failure(&mut home.command(&here, &["--nonsense"]));
    assert!(code == Some(2) && text.contains("--nonsense") && text.contains("--help"), "{text}");
    let (_, text) = failure(&mut home.command(&here, &["--binary", "absent"]));
    assert!(text.contains("absent is no file"), "{text}");
    fs::write(home.path("broken"), "\x7fELF").unwrap();
    let (_, text) = failure(&mut home.command(&here, &["--binary", home.path("broken").to_str().unwrap()]));
    assert!(text.contains("does not run on this machine"), "{text}");
    assert!(!home.agent().exists() && fs::read_dir(home.agent().parent().unwrap()).unwrap().count() == 0);
}

#[test]
fn without_cargo_it_says_how_to_get_it() {
    let home = Home::new();
    let tools = home.path("tools");
    fs::create_dir(&tools).unwrap();
    for tool in ["sh", "dirname", "cat"] {
        let found = Command::new("sh").args(["-c", &format!("command -v {tool}")]).output().unwrap().stdout;
        let target = String::from_utf8(found).unwrap();
        std::os::unix::fs::symlink(target.trim_end(), tools.join(tool)).unwrap();
    }
    let (code, text) = failure(home.command(&home.path("home"), &[]).env("PATH", &tools));
    assert!(code == Some(1) && text.contains("rustup.rs"), "{text}");
}
