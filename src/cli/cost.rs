//! `cost`: what delivery has charged, and what this repository's history will.
//!
//! Three sources, told apart in the answer: what the store has charged (the outbox keeps it day by day), the records
//! of the newest commits as they would be stored, and Azure's list prices. Where nothing was charged yet, a record's
//! price is estimated from its size by Azure's published figures.

use gitops_agent::capture::Repo;
use gitops_agent::destination::Destination;
use gitops_agent::outbox::DaySpent;
use jiff::Timestamp;
use serde::Serialize;

use super::RepoFlag;
use super::failure::{ExitCode, Failure};
use super::session::Session;
use super::ui::Ui;

/// So many of the newest commits are made into records to learn their size: two seconds' work.
const SAMPLE: usize = 200;
/// The past that the forecast goes by.
const YEAR_DAYS: f64 = 365.0;
const MONTH_DAYS: f64 = YEAR_DAYS / 12.0;

/// What the store has charged, and a forecast from this repository's history.
#[derive(clap::Args, Debug)]
#[command(
    after_help = "Examples:\n  gitops-agent cost\n  gitops-agent cost --price-ru 0.285 --price-gb 0.28 --json"
)]
pub(super) struct CostArgs {
    #[command(flatten)]
    repo: RepoFlag,
    /// Price of a million request units (serverless); Azure's list price in US dollars unless given.
    #[arg(long, value_name = "PRICE", default_value_t = 0.25, value_parser = price)]
    price_ru: f64,
    /// Price of a GB stored for a month; Azure's list price in US dollars unless given.
    #[arg(long, value_name = "PRICE", default_value_t = 0.25, value_parser = price)]
    price_gb: f64,
    /// For programs.
    #[arg(long)]
    json: bool,
}

fn price(text: &str) -> Result<f64, String> {
    let price = text.parse().ok().filter(|price: &f64| price.is_finite() && *price >= 0.0);
    price.ok_or_else(|| "must be a price such as 0.25".to_owned())
}

/// What a new record of so many bytes costs by Azure's published figures: 5 RU for 1 KB and 50 RU for 100 KB
/// (learn.microsoft.com, "Optimize request cost in Azure Cosmos DB"), straight in between.
fn published_ru(bytes: f64) -> f64 {
    5.0 + 45.0 / 99.0 * (bytes / 1024.0 - 1.0).max(0.0)
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Answer {
    schema_version: u32,
    destination: String,
    measured: Measured,
    sample: Sample,
    forecast: Forecast,
}

/// What the store has charged this outbox.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Measured {
    records: u64,
    request_units: f64,
    per_record: Option<f64>,
    budget_a_day: Option<u32>,
    days: Vec<Day>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Day {
    day: String,
    request_units: f64,
}

/// The newest commits as records.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Sample {
    commits: usize,
    mean_bytes: f64,
    largest_bytes: usize,
    /// From the size, by Azure's published figures.
    published_per_record: f64,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Forecast {
    /// Which of the two prices of a record it goes by: `measured` or `published`.
    per_record_from: &'static str,
    per_record: f64,
    history: Amount,
    month: Amount,
    /// Once records are deleted as fast as they come: everything of the retention.
    stored_bytes_at_most: f64,
    stored_price_a_month_at_most: f64,
    /// Days that the history takes at `store.budget_ru`.
    history_days: Option<f64>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Amount {
    commits: f64,
    request_units: f64,
    bytes: f64,
    price: f64,
}

pub(super) fn run(args: &CostArgs, ui: &mut Ui) -> Result<ExitCode, Failure> {
    let repo = args.repo.open()?;
    let session = Session::of_repo(&repo, None)?;
    let answer = answer(args, &repo, &session)?;
    if args.json {
        ui.json(&answer)?;
    } else {
        print(&answer, ui)?;
    }
    Ok(ExitCode::SUCCESS)
}

fn answer(args: &CostArgs, repo: &Repo, session: &Session) -> Result<Answer, Failure> {
    let settings = &session.settings;
    let measured = measured(session)?;
    let now = Timestamp::now();
    let history = repo.resolve(&[], None, None)?;
    let year_ago = now.as_second() - 365 * 86_400;
    let of_year = repo.resolve(&[], Some(year_ago), None)?.len();
    let sample = sample(repo, session, &history, now)?;
    let (per_record_from, per_record) = match measured.per_record {
        Some(charged) => ("measured", charged),
        None => ("published", sample.published_per_record),
    };
    let amount = |commits: f64| Amount {
        commits,
        request_units: commits * per_record,
        bytes: commits * sample.mean_bytes,
        price: commits * per_record / 1e6 * args.price_ru,
    };
    let month = amount(number(of_year) / YEAR_DAYS * MONTH_DAYS);
    let history = amount(number(history.len()));
    let kept_months = f64::from(settings.retention_days.value) / MONTH_DAYS;
    let stored = history.bytes + month.bytes * kept_months;
    let budget = measured.budget_a_day.map(f64::from);
    let forecast = Forecast {
        per_record_from,
        per_record,
        history_days: budget.map(|budget| (history.request_units / budget).ceil()),
        history,
        month,
        stored_bytes_at_most: stored,
        stored_price_a_month_at_most: stored / 1e9 * args.price_gb,
    };
    let destination = settings.destination.value.to_string();
    Ok(Answer { schema_version: 1, destination, measured, sample, forecast })
}

fn measured(session: &Session) -> Result<Measured, Failure> {
    let destination = &session.settings.destination.value;
    let outbox = session.outbox()?;
    let stats = outbox.stats(Timestamp::now())?;
    let here = stats.destinations.iter().find(|stats| stats.destination == *destination);
    let (records, request_units) = here.map_or((0, 0.0), |here| (here.delivered, here.request_units));
    let charges = !matches!(destination, Destination::Local) && records > 0 && request_units > 0.0;
    let day = |spent: DaySpent| Day { day: spent.day.to_string(), request_units: spent.request_units };
    Ok(Measured {
        records,
        request_units,
        per_record: charges.then(|| request_units / number(usize::try_from(records).unwrap_or(usize::MAX))),
        budget_a_day: session.settings.budget_ru.as_ref().map(|budget| budget.value),
        days: outbox.spending(destination)?.into_iter().map(day).collect(),
    })
}

/// Makes records of the newest commits; stores nothing.
fn sample(
    repo: &Repo,
    session: &Session,
    history: &[gitops_agent::capture::CommitId],
    now: Timestamp,
) -> Result<Sample, Failure> {
    let rules = session.rules()?;
    let recorder = session.recorder(repo, &rules);
    let (mut commits, mut bytes, mut largest, mut units) = (0, 0, 0, 0.0);
    repo.reading(|reading| {
        for id in history.iter().take(SAMPLE) {
            // A commit that cannot be read is backfill's to report.
            if let Ok(made) = recorder.record(reading, id, "backfill", Vec::new(), now) {
                commits += 1;
                bytes += made.json.len();
                largest = largest.max(made.json.len());
                units += published_ru(number(made.json.len()));
            }
        }
    })?;
    let mean = |sum: f64| if commits == 0 { 0.0 } else { sum / number(commits) };
    Ok(Sample {
        commits,
        mean_bytes: mean(number(bytes)),
        largest_bytes: largest,
        published_per_record: mean(units),
    })
}

/// Counts far below 2^53.
#[expect(clippy::cast_precision_loss, reason = "see above")]
fn number(count: usize) -> f64 {
    count as f64
}

fn print(answer: &Answer, ui: &mut Ui) -> Result<(), Failure> {
    let Answer { measured, sample, forecast, destination, .. } = answer;
    ui.line(destination)?;
    match measured.per_record {
        Some(charged) => ui.line(format!(
            "charged so far: {:.0} RU for {} records, {charged:.1} RU each",
            measured.request_units, measured.records
        ))?,
        None => ui.line("charged so far: nothing")?,
    }
    for day in measured.days.iter().rev().take(7) {
        ui.line(format!("  {}  {:.0} RU", day.day, day.request_units))?;
    }
    if let Some(budget) = measured.budget_a_day {
        ui.line(format!("budget: {budget} RU a day (store.budget_ru), commits made now go beyond it"))?;
    }
    ui.line(format!(
        "a record here: {:.1} KiB on average, {:.1} KiB at most, of {} commits; by Azure's figures {:.1} RU",
        sample.mean_bytes / 1024.0,
        number(sample.largest_bytes) / 1024.0,
        sample.commits,
        sample.published_per_record
    ))?;
    ui.line(format!("forecast, at {:.1} RU a record ({}):", forecast.per_record, forecast.per_record_from))?;
    let row = |name: &str, amount: &Amount| {
        vec![
            name.to_owned(),
            format!("{:.0}", amount.commits),
            format!("{:.0}", amount.request_units),
            format!("{:.1}", amount.bytes / 1e6),
            format!("{:.4}", amount.price),
        ]
    };
    let rows = vec![row("history, once", &forecast.history), row("a month", &forecast.month)];
    ui.table(&["", "commits", "RU", "MB", "price, serverless"], rows)?;
    if let Some(days) = forecast.history_days {
        ui.line(format!("the history takes {days:.0} days at the budget"))?;
    }
    ui.line(format!(
        "stored at most {:.1} MB, {:.4} a month",
        forecast.stored_bytes_at_most / 1e6,
        forecast.stored_price_a_month_at_most
    ))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn azures_figures_are_met_and_lie_on_a_line() {
        assert!((published_ru(1024.0) - 5.0).abs() < 1e-9);
        assert!((published_ru(100.0 * 1024.0) - 50.0).abs() < 1e-9);
        assert!((published_ru(10.0) - 5.0).abs() < 1e-9);
        // An ordinary record, 3 KiB: within the six units that one may cost.
        assert!(published_ru(3.0 * 1024.0) < 6.0);
    }
}
