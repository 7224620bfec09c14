//! What the fuzzer holds of this room's parsers.

use std::path::Path;

use super::{DAY, Layers, Sources, file};
use crate::destination::Destination;

/// Reads a settings file: what is taken is allowed, and what is refused is said in one line.
pub(crate) fn settings(text: &str) {
    let path = Path::new("/home/config.toml");
    let sources = Sources::default();
    let settled = file::parse(path, text)
        .and_then(|file| Layers { file: Some((path.to_owned(), file)), sources: &sources }.settle());
    match settled {
        Ok(settings) => {
            assert!((1..=64).contains(&settings.tenant.value.len()));
            assert!(settings.ttl() >= DAY);
            if let Destination::Cosmos { endpoint, .. } = &settings.destination.value {
                assert!(endpoint.starts_with("https://") || endpoint.starts_with("http://"), "{endpoint}");
            }
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}
