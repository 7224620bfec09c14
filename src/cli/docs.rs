//! `completions` and `man`: both made from the parser, so that they cannot drift from it.

use std::io::Write as _;
use std::path::Path;

use super::failure::{DISK, ExitCode, Failure};
use super::ui::Ui;

pub(super) fn completions(shell: clap_complete::Shell, ui: &mut Ui) -> Result<ExitCode, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut super::command(), "gitops-agent", &mut script);
    ui.raw().write_all(&script)?;
    ui.raw().flush()?;
    Ok(ExitCode::SUCCESS)
}

pub(super) fn man(folder: Option<&Path>, ui: &mut Ui) -> Result<ExitCode, Failure> {
    match folder {
        Some(folder) => {
            std::fs::create_dir_all(folder)
                .and_then(|()| clap_mangen::generate_to(super::command(), folder))
                .map_err(|error| Failure::new(DISK, format!("{}: {error}", folder.display())))?;
            ui.note(format!("manual pages written to {}", folder.display()));
        }
        None => {
            clap_mangen::Man::new(super::command()).render(ui.raw())?;
            ui.raw().flush()?;
        }
    }
    Ok(ExitCode::SUCCESS)
}
