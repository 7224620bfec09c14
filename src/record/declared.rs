//! What the author declares in the message, as trailers or as `Key: value` lines anywhere in it.
//!
//! Healthcare teams write `PHI-Impact: None` or `Clinical-Safety: requires review`; a later line wins
//! over an earlier one, since trailers stand at the end.

use serde::{Deserialize, Serialize};

/// Declarations found in a message; values are redacted like the message itself and at most 200 bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Declared {
    /// `HIPAA:`
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub hipaa: Option<String>,
    /// `PHI-Impact:`
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub phi_impact: Option<String>,
    /// `Clinical-Safety:`
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub clinical_safety: Option<String>,
    /// `Risk-Level:`
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub risk_level: Option<String>,
    /// `Compliance:`
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub compliance: Option<String>,
    /// `Service:`
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub service: Option<String>,
    /// `Reviewed-by:`, all of them.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub reviewed_by: Vec<String>,
    /// `Ticket:`, `Issue:` or `Jira:`, else what the repository's own pattern finds
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub ticket: Option<String>,
}

impl Declared {
    /// Reads a (redacted) message; `None` where nothing is declared. `ticket` is what the repository's own pattern
    /// finds, which counts where no line names one.
    #[must_use]
    pub fn read(message: &str, ticket: Option<String>) -> Option<Self> {
        let mut declared = Self::default();
        for line in message.lines() {
            let Some((key, value)) = line.split_once(':') else { continue };
            let value = value.trim();
            if value.is_empty() || value.starts_with("//") {
                continue;
            }
            let value = value[..value.floor_char_boundary(200)].to_owned();
            let key: String = key
                .trim()
                .chars()
                .filter(|c| !matches!(c, '-' | '_' | ' '))
                .map(|c| c.to_ascii_lowercase())
                .collect();
            match key.as_str() {
                "hipaa" => declared.hipaa = Some(value),
                "phiimpact" => declared.phi_impact = Some(value),
                "clinicalsafety" => declared.clinical_safety = Some(value),
                "risklevel" => declared.risk_level = Some(value),
                "compliance" => declared.compliance = Some(value),
                "service" => declared.service = Some(value),
                "reviewedby" => declared.reviewed_by.push(value),
                "ticket" | "issue" | "jira" => declared.ticket = Some(value),
                _ => {}
            }
        }
        declared.ticket = declared.ticket.or(ticket);
        (declared != Self::default()).then_some(declared)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spellings_are_normalised_and_the_last_line_wins() {
        let declared = Declared::read(
            "Add patient search\n\nPHI-Impact: Low\nphi_impact: None\nRisk Level: high\nReviewed-by: A\nReviewed-By: B\n",
            None,
        )
        .expect("declarations");
        assert_eq!(declared.phi_impact.as_deref(), Some("None"));
        assert_eq!(declared.risk_level.as_deref(), Some("high"));
        assert_eq!(declared.reviewed_by, ["A", "B"]);
    }

    #[test]
    fn an_ordinary_message_declares_nothing() {
        assert_eq!(Declared::read("fix: compliance of service: https://x\n\nissue://3", None), None);
    }
}
