//! What kind of file a path is.

use serde::{Deserialize, Serialize};

/// The kinds that rules can ask for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[expect(missing_docs, reason = "the names say it")]
pub enum FileKind {
    #[default]
    Source,
    Test,
    Doc,
    Config,
    Migration,
    Manifest,
    Lockfile,
    Generated,
    Binary,
    Hl7v2,
    Fhir,
    Dicom,
    X12,
    Ccda,
    Sbom,
}

impl FileKind {
    /// stub
    pub fn classify(_path: &[u8], _head: &[u8]) -> Self {
        Self::Source
    }
}
