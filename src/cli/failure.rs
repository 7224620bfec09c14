//! One place that turns every error of the library into a message with the next step and an exit code of
//! the contract.

use gitops_agent::capture::CaptureError;
use gitops_agent::config::ConfigError;
use gitops_agent::install::InstallError;
use gitops_agent::outbox::OutboxError;
use gitops_agent::reconcile::ReconcileError;
use gitops_agent::recorder::RecordError;
use gitops_agent::rules::RuleError;
use gitops_agent::store::{ErrorClass, StoreError};

use super::ui;

/// Done, and the answer is "no".
pub(super) const NO: u8 = 1;
/// Wrong usage, settings, rule file, repository or revision.
pub(super) const USAGE: u8 = 2;
/// Partly done; everything is kept.
pub(super) const PARTLY: u8 = 3;
/// Access denied by the store; records are held.
pub(super) const DENIED: u8 = 4;
/// The local disk or database failed.
pub(super) const DISK: u8 = 5;

/// What the process ends with. The standard library's own type tells nobody its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ExitCode(u8);

impl ExitCode {
    /// Done.
    pub(super) const SUCCESS: Self = Self(0);
}

impl From<u8> for ExitCode {
    fn from(code: u8) -> Self {
        Self(code)
    }
}

impl From<ExitCode> for u8 {
    fn from(code: ExitCode) -> Self {
        code.0
    }
}

/// Why a command ended early.
#[derive(Debug)]
pub(super) struct Failure {
    code: u8,
    message: String,
    hint: Option<String>,
}

impl Failure {
    /// A failure with the exit code and what happened.
    pub(super) fn new(code: u8, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), hint: None }
    }

    /// Adds the next step.
    pub(super) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Adds what comes after the next step.
    pub(super) fn and_hint(mut self, then: impl AsRef<str>) -> Self {
        let first = self.hint.take().map(|hint| format!("{hint}; then ")).unwrap_or_default();
        self.hint = Some(first + then.as_ref());
        self
    }

    pub(super) fn code(&self) -> ExitCode {
        ExitCode::from(self.code)
    }

    /// The message in one line, for the hook.
    pub(super) fn line(&self) -> String {
        self.message.split_whitespace().collect::<Vec<_>>().join(" ")
    }

    pub(super) fn print(&self) {
        // The reader of a pipe has gone: nobody is left to tell.
        if self.message.is_empty() {
            return;
        }
        ui::error(&format!("error: {}", self.message));
        if let Some(hint) = &self.hint {
            ui::error(&format!("  next: {hint}"));
        }
    }
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        Self::new(USAGE, error.to_string())
            .hint("mend or remove the value where it was set; nothing was changed or lost")
    }
}

impl From<CaptureError> for Failure {
    fn from(error: CaptureError) -> Self {
        Self::new(USAGE, error.to_string())
    }
}

impl From<RuleError> for Failure {
    fn from(error: RuleError) -> Self {
        Self::new(USAGE, error.to_string())
            .hint("`gitops-agent rules check --rules DIR` tests a folder of rules")
    }
}

impl From<RecordError> for Failure {
    fn from(error: RecordError) -> Self {
        match error {
            RecordError::Capture(error) => error.into(),
            error => Self::new(DISK, error.to_string()),
        }
    }
}

impl From<InstallError> for Failure {
    fn from(error: InstallError) -> Self {
        let disk = match &error {
            InstallError::Io { .. } => true,
            InstallError::Step { source, .. } => matches!(**source, InstallError::Io { .. }),
            _ => false,
        };
        Self::new(if disk { DISK } else { USAGE }, error.to_string())
    }
}

impl From<ReconcileError> for Failure {
    fn from(error: ReconcileError) -> Self {
        match error {
            ReconcileError::Capture(error) => error.into(),
            ReconcileError::Outbox(error) => error.into(),
            ReconcileError::Json(_) => Self::new(DISK, error.to_string()),
        }
    }
}

impl From<OutboxError> for Failure {
    fn from(error: OutboxError) -> Self {
        let code = match error {
            OutboxError::NotFound(_) | OutboxError::Ambiguous { .. } | OutboxError::Settled(_) => USAGE,
            _ => DISK,
        };
        Self::new(code, error.to_string())
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        let code = match error.class {
            _ if error.kind.starts_with("local-store") => DISK,
            ErrorClass::Held => DENIED,
            _ => PARTLY,
        };
        let hint =
            error.hint.unwrap_or_else(|| "`gitops-agent store check` looks at each part of the way".into());
        Self::new(code, error.message).hint(hint)
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        if error.kind() == std::io::ErrorKind::BrokenPipe {
            return Self::new(0, "");
        }
        Self::new(DISK, error.to_string())
    }
}

impl From<serde_json::Error> for Failure {
    fn from(error: serde_json::Error) -> Self {
        match error.io_error_kind() {
            Some(kind) => Self::from(std::io::Error::from(kind)),
            None => Self::new(DISK, format!("a stored record cannot be read as JSON: {error}")),
        }
    }
}
