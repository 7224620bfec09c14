//! The filters that `query`, `query --follow` and `export` share.

use clap::ValueEnum;
use gitops_agent::config;
use gitops_agent::record::Identity;
use gitops_agent::store::Query;

use super::failure::{Failure, USAGE};
use super::session::Session;

/// Which records.
#[derive(clap::Args, Clone, Debug)]
pub(super) struct Filter {
    /// The tenant; the configured one unless given.
    #[arg(long, value_name = "T")]
    tenant: Option<String>,
    /// First day, inclusive.
    #[arg(long, value_name = "YYYY-MM-DD", value_parser = day)]
    since: Option<String>,
    /// Last day, inclusive.
    #[arg(long, value_name = "YYYY-MM-DD", value_parser = day)]
    until: Option<String>,
    /// Least risk score, 0 to 1.
    #[arg(long, value_name = "X", value_parser = score)]
    min_risk: Option<f64>,
    /// A tag that the commit must carry; repeat it for several.
    #[arg(long = "tag", value_name = "TAG")]
    tags: Vec<String>,
    /// The risk level.
    #[arg(long, value_enum)]
    level: Option<Level>,
    /// A rule that made a finding, by its id.
    #[arg(long, value_name = "RULE")]
    rule: Option<String>,
    /// A citation of a finding; `45 CFR 164.312` finds its paragraphs, too.
    #[arg(long, value_name = "CITATION")]
    citation: Option<String>,
    /// A file that was changed; with a / at its end, anything in that folder.
    #[arg(long, value_name = "PATH")]
    path: Option<String>,
    /// The author, by address or name; where people are pseudonyms, by address.
    #[arg(long, value_name = "WHO")]
    author: Option<String>,
    /// A repository that has the commit, by its name or id.
    #[arg(long, value_name = "NAME")]
    repository: Option<String>,
    /// One commit, by its id or the beginning of it.
    #[arg(long, value_name = "SHA", value_parser = commit)]
    commit: Option<String>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Level {
    Low,
    Medium,
    High,
}

impl Level {
    /// As it stands in a record.
    fn name(self) -> &'static str {
        match self {
            Self::Low => "low",
            Self::Medium => "medium",
            Self::High => "high",
        }
    }
}

fn day(text: &str) -> Result<String, String> {
    text.parse::<jiff::civil::Date>()
        .ok()
        .filter(|_| text.len() == 10)
        .map(|date| date.to_string())
        .ok_or_else(|| "must be a day such as 2026-07-01".to_owned())
}

fn score(text: &str) -> Result<f64, String> {
    text.parse()
        .ok()
        .filter(|score| (0.0..=1.0).contains(score))
        .ok_or_else(|| "must be a number from 0 to 1".to_owned())
}

fn commit(text: &str) -> Result<String, String> {
    let ok = (4..=64).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    if ok { Ok(text.to_ascii_lowercase()) } else { Err("must be 4 to 64 hexadecimal digits".to_owned()) }
}

impl Filter {
    /// What is asked, with the settings in force.
    pub(super) fn query(&self, session: &Session) -> Result<Query, Failure> {
        // Days of ten characters compare as text.
        if let (Some(since), Some(until)) = (&self.since, &self.until)
            && since > until
        {
            let message = format!("--since {since} is later than --until {until}: no day lies between");
            return Err(Failure::new(USAGE, message).hint("swap the two"));
        }
        let tenant = tenant(self.tenant.as_deref(), session)?;
        let pseudonym = |who: &String| [who.clone(), Identity::pseudonym(&tenant, who)];
        Ok(Query {
            authors: self.author.as_ref().map(pseudonym).into_iter().flatten().collect(),
            tenant,
            since: self.since.clone(),
            until: self.until.clone(),
            min_risk: self.min_risk,
            tags: self.tags.clone(),
            commit: self.commit.clone(),
            level: self.level.map(|level| level.name().to_owned()),
            rule: self.rule.clone(),
            citation: self.citation.clone(),
            path: self.path.clone(),
            repository: self.repository.clone(),
            limit: None,
        })
    }
}

/// The tenant that a flag names, or else the one in force.
pub(super) fn tenant(given: Option<&str>, session: &Session) -> Result<String, Failure> {
    match given {
        Some(given) => config::tenant(given)
            .map_err(|problem| Failure::new(USAGE, format!("--tenant {given:?} {problem}"))),
        None => Ok(session.settings.tenant.value.clone()),
    }
}
