//! What an answer says, and whether it is the service's own: proxies and sign-in pages of networks answer in its place.
//!
//! What has the right status and the service's headers cannot be told from the service; `verify` finds what it took.

use std::error::Error as _;

use azure_core::http::StatusCode;
use azure_data_cosmos::CosmosError;
use azure_data_cosmos::models::ItemResponse;

use super::errors::{Place, not_the_store, one_line};
use crate::store::StoreError;

/// Whether an answer to a write is the service's. The SDK takes any 2xx for a success, and the record that a hotel's
/// page answered for would be gone. The service's has the status of the operation, and says what was written (its
/// version tag) and what it cost.
pub(super) fn acknowledges(
    expected: StatusCode,
    response: &ItemResponse,
    place: &Place,
) -> Result<(), StoreError> {
    let (status, headers) = (response.status().status_code(), response.headers());
    if status != expected {
        let what = format!("status {status} where {expected} was expected");
        return Err(not_the_store(place, &what));
    }
    if headers.etag().is_none() && headers.request_charge().is_none() {
        return Err(not_the_store(place, "a success without a version tag or a charge"));
    }
    Ok(())
}

/// What the store said last, where the SDK has given up repeating with a status of its own.
pub(super) fn last(error: &CosmosError) -> &CosmosError {
    let mut next = Some(error);
    while let Some(known) = next {
        if known.is_from_wire() {
            return known;
        }
        next = known.source().and_then(|source| source.downcast_ref());
    }
    error
}

/// Whether the answer is a page for people.
pub(super) fn is_page(error: &CosmosError) -> bool {
    let body = error.response().and_then(|response| response.body().clone().single().ok());
    body.is_some_and(|body| body.trim_ascii_start().starts_with(b"<"))
}

/// The server's own words, or the innermost cause where no server spoke.
pub(super) fn detail(error: &CosmosError) -> String {
    let text = error.to_string();
    // The SDK writes "400/1001 (Name): Cosmos DB returned HTTP 400/1001: Name. Details: words"; the numbers
    // are fields of their own here.
    let details = text.split_once("Details: ").filter(|_| error.is_from_wire());
    let words = match details {
        Some((_, words)) => words.to_owned(),
        None => said(error)
            .or_else(|| cause(error))
            .unwrap_or_else(|| text.split_once(": ").map_or(text.clone(), |(_, words)| words.to_owned())),
    };
    // The identity library ends with a link for its own developers.
    one_line(words.split("To troubleshoot, visit").next().unwrap_or_default())
}

/// The service's message, which the SDK leaves in the answer's body while it opens an account.
fn said(error: &CosmosError) -> Option<String> {
    let body = error.response()?.body().clone().single().ok()?;
    let body: serde_json::Value = serde_json::from_slice(&body).ok()?;
    let message = body["message"].as_str()?;
    // After it come ids and addresses of the service's own.
    Some(message.split("ActivityId:").next().unwrap_or_default().to_owned())
}

/// The first error of the identity library, which has the reason; else the innermost one of the transport.
fn cause(error: &CosmosError) -> Option<String> {
    let mut text = None;
    let mut source = error.source();
    while let Some(cause) = source {
        text = Some(cause.to_string());
        if cause.is::<azure_core::Error>() {
            break;
        }
        source = cause.source();
    }
    text
}
