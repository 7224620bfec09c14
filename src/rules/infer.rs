//! What kind of repository this is, by what its tree holds.
//!
//! Two looks. The face (top folders, readme, manifests) says in words what the software is for, and is a
//! function of the commit's own tree. Where it says nothing, as in histories from before there was a readme, the
//! paths of the whole tree can: a device repository has dozens of files named after glucose, boluses or DICOM.
//! The second look is dear and is taken by commands, never by a hook.
//!
//! The words are of the field, and none names a repository. A word that ordinary software uses as well
//! (`imaging`, `clinic`) weighs little; one repository in which a strong word occurs by chance stays below the
//! threshold. Where neither look finds enough the class is unknown: ordinary software is never *inferred*,
//! since absence of words is no evidence.
//!
//! Limits: 3 occurrences of a word count; paths of tests, documentation and vendored code do not.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::LazyLock;

use super::Class;
use crate::literals::Literals;

/// Raised when words, weights or thresholds change, so that kept results are made anew.
pub const INFERENCE: u32 = 1;

/// Points that a face needs.
const FACE: u32 = 6;
/// Points that paths need, and the share of all paths (one in so many) that must have a word.
const PATHS: u32 = 40;
const SHARE: usize = 50;
/// Occurrences of a word that count, in a face and in paths.
const FACE_TIMES: u32 = 3;
const PATH_TIMES: u32 = 20;

/// Words with their class and weight; a phrase is written with single spaces, in lower case.
const WORDS: &[(Class, u32, &[&str])] = &[
    (
        Class::Device,
        3,
        &[
            "dicom",
            "pacs",
            "insulin",
            "glucose",
            "cgm",
            "artificial pancreas",
            "dexcom",
            "medtronic",
            "omnipod",
            "infusion pump",
            "medical device",
            "medical devices",
            "medical imaging",
            "radiotherapy",
            "ventilator",
            "pacemaker",
            "spirometer",
            "pulse oximeter",
            "defibrillator",
            "dialysis",
            "iec 62304",
            "510 k",
            "samd",
            "pulse oximetry",
            "electrocardiogram",
            "patient monitor",
        ],
    ),
    (
        Class::Device,
        2,
        &[
            "dcm",
            "radiology",
            "basal",
            "bolus",
            "ecg",
            "ekg",
            "eeg",
            "dosing",
            "diabetes",
            "ultrasound",
            "bgm",
        ],
    ),
    (Class::Device, 1, &["imaging", "mri", "ct scan", "closed loop", "iob"]),
    (
        Class::Records,
        3,
        &[
            "clinical trial",
            "clinical trials",
            "electronic data capture",
            "ecrf",
            "cdisc",
            "21 cfr part 11",
            "clinical data management",
            "clinical study",
            "clinical studies",
            "case report form",
        ],
    ),
    (
        Class::Records,
        2,
        &["crf", "edc", "odm", "part 11", "clinical research", "21 cfr", "study subject", "discrepancy note"],
    ),
    (
        Class::Ehr,
        3,
        &[
            "fhir",
            "ehr",
            "electronic health record",
            "electronic health records",
            "electronic medical record",
            "electronic medical records",
            "medical record",
            "medical records",
            "health record",
            "health records",
            "ccda",
            "openehr",
            "practice management",
        ],
    ),
    (
        Class::Ehr,
        2,
        &[
            "hl7",
            "emr",
            "patient",
            "patients",
            "hospital",
            "hospitals",
            "hipaa",
            "telehealth",
            "telemedicine",
            "healthcare",
            "health care",
            "encounter",
            "encounters",
        ],
    ),
    (Class::Ehr, 1, &["clinic", "clinics", "clinical", "phi", "medication", "medications", "prescription"]),
];

/// An inferred class and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inference {
    /// The class.
    pub class: Class,
    /// Whether twice as much spoke for it as is needed.
    pub sure: bool,
    /// The words that spoke for it with how often they occur, those that say most first.
    pub reasons: Vec<String>,
}

/// Infers from the names of the top folders and the beginnings of readme and manifests.
#[must_use]
pub fn infer_from_face(names: &[String], texts: &[String]) -> Option<Inference> {
    let mut count = Counter::new(FACE_TIMES);
    for text in names.iter().chain(texts) {
        count.text(text);
    }
    count.decide(FACE)
}

/// Infers from the paths of all files.
#[must_use]
pub fn infer_from_paths(paths: &[Vec<u8>]) -> Option<Inference> {
    let mut count = Counter::new(PATH_TIMES);
    let (mut telling, mut all) = (0_usize, 0_usize);
    for path in paths {
        let path = String::from_utf8_lossy(path);
        let lower = path.to_ascii_lowercase();
        let aside = lower.split('/').any(|folder| {
            ["test", "tests", "doc", "docs", "vendor", "node_modules", "third_party", "fixtures"]
                .contains(&folder)
        });
        if aside {
            continue;
        }
        all += 1;
        telling += usize::from(count.text(&path));
    }
    if telling * SHARE < all { None } else { count.decide(PATHS) }
}

/// The phrases, with class and weight, and what finds them all at once.
struct Phrases {
    literals: Literals,
    /// In the order of the literals.
    meaning: Vec<(&'static str, Class, u32)>,
}

static PHRASES: LazyLock<Phrases> = LazyLock::new(|| {
    let all =
        WORDS.iter().flat_map(|(class, weight, words)| words.iter().map(|word| (*word, *class, *weight)));
    let mut meaning: Vec<_> = all.collect();
    meaning.sort_unstable_by_key(|(phrase, ..)| *phrase);
    let literals = Literals::new(meaning.iter().map(|(phrase, ..)| Cow::Borrowed(*phrase)).collect());
    Phrases { literals, meaning }
});

/// Counts words.
struct Counter {
    found: BTreeMap<(&'static str, Class), (u32, u32)>,
    times: u32,
}

impl Counter {
    fn new(times: u32) -> Self {
        Self { found: BTreeMap::new(), times }
    }

    /// Counts the words of a text; whether there was one.
    fn text(&mut self, text: &str) -> bool {
        let words = words(text);
        let mut any = false;
        PHRASES.literals.search(&words, |number, at| {
            let (phrase, class, weight) = PHRASES.meaning[usize::from(number)];
            if at.checked_sub(1).map(|before| words[before]) == Some(b' ') && words[at + phrase.len()] == b' '
            {
                any = true;
                self.found.entry((phrase, class)).or_insert((weight, 0)).1 += 1;
            }
        });
        any
    }

    fn points(&self, class: Class) -> u32 {
        let of = self.found.iter().filter(|((_, of), _)| *of == class);
        of.map(|(_, (weight, times))| weight * times.min(&self.times)).sum()
    }

    /// Imaging and device software speaks of patients and HL7 as well, so device and records need half of what
    /// an EHR has; the other way round an EHR mentions DICOM once.
    fn decide(&self, threshold: u32) -> Option<Inference> {
        let [device, records, ehr] =
            [Class::Device, Class::Records, Class::Ehr].map(|class| self.points(class));
        // Without a word of full weight it takes twice as much.
        let strong = |class, points: u32| {
            let full = |((_, of), (weight, _)): (&(&str, Class), &(u32, u32))| *of == class && *weight == 3;
            points >= 2 * threshold || self.found.iter().any(full)
        };
        let enough = |class, points: u32| points >= threshold && strong(class, points) && points * 2 >= ehr;
        let class = if enough(Class::Records, records) && records >= device {
            Class::Records
        } else if enough(Class::Device, device) {
            Class::Device
        } else if ehr >= threshold && strong(Class::Ehr, ehr) {
            Class::Ehr
        } else {
            return None;
        };
        let mut reasons: Vec<(u32, String)> = self
            .found
            .iter()
            .filter(|((_, of), _)| *of == class)
            .map(|((phrase, _), (weight, times))| {
                (weight * times.min(&self.times), format!("{phrase} ({times})"))
            })
            .collect();
        reasons.sort_by(|a, b| b.0.cmp(&a.0).then_with(|| a.1.cmp(&b.1)));
        Some(Inference {
            class,
            sure: self.points(class) >= 2 * threshold,
            reasons: reasons.into_iter().take(6).map(|(_, reason)| reason).collect(),
        })
    }
}

/// The words of a text in lower case, a blank before and behind each; `camelCase` and every sign divide words.
fn words(text: &str) -> Vec<u8> {
    let text = text.as_bytes();
    let mut words = Vec::with_capacity(text.len() + text.len() / 4);
    words.push(b' ');
    let mut before = b' ';
    for (at, letter) in text.iter().enumerate() {
        // `bloodGlucose`, and `CRFBean`.
        let starts = letter.is_ascii_uppercase()
            && (before.is_ascii_lowercase()
                || before.is_ascii_uppercase() && text.get(at + 1).is_some_and(u8::is_ascii_lowercase));
        if (starts || !letter.is_ascii_alphanumeric()) && words.last() != Some(&b' ') {
            words.push(b' ');
        }
        if letter.is_ascii_alphanumeric() {
            words.push(letter.to_ascii_lowercase());
        }
        before = *letter;
    }
    if words.last() != Some(&b' ') {
        words.push(b' ');
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    fn face(text: &str) -> Option<Class> {
        infer_from_face(&[], &[text.to_owned()]).map(|found| found.class)
    }

    #[test]
    fn a_readme_says_what_the_software_is_for() {
        let cases = [
            (
                "# Loop\nAn automated insulin delivery app: glucose from a CGM, bolus advice",
                Some(Class::Device),
            ),
            ("A DICOM toolkit. Stores DICOM objects of patients and sends HL7", Some(Class::Device)),
            ("An implementation of the FHIR standard, FHIR R4, for healthcare", Some(Class::Ehr)),
            ("Open source electronic medical record for hospitals; supports DICOM viewers", Some(Class::Ehr)),
            ("Electronic data capture for clinical trials: CRF design, patients", Some(Class::Records)),
            ("A 510(k) cleared product. 510(k) summary", Some(Class::Device)),
            ("A fast web framework. Be patient: health check, clinic", None),
            ("Converts PNG, TIFF and DICOM", None),
            ("", None),
        ];
        for (text, class) in cases {
            assert_eq!(face(text), class, "{text}");
        }
    }

    #[test]
    fn reasons_name_the_words() {
        let found = infer_from_face(&["fhir-core".into()], &["FHIR for Hospital".into()]).expect("a class");
        assert_eq!(found.reasons, ["fhir (2)", "hospital (1)"]);
    }

    #[test]
    fn paths_need_many_files_and_a_share_of_the_tree() {
        let paths = |times: usize, others: usize| -> Vec<Vec<u8>> {
            let glucose = (0..times).flat_map(|n| {
                [format!("data/glucose/a{n}.go"), format!("data/bolus/b{n}.go")].map(String::into_bytes)
            });
            glucose.chain((0..others).map(|n| format!("src/x{n}.go").into_bytes())).collect()
        };
        assert_eq!(infer_from_paths(&paths(10, 100)).map(|found| found.class), Some(Class::Device));
        assert_eq!(infer_from_paths(&paths(3, 0)), None);
        assert_eq!(infer_from_paths(&paths(10, 2000)), None);
        let tests: Vec<Vec<u8>> = (0..50).map(|n| format!("tests/insulin/a{n}.go").into_bytes()).collect();
        assert_eq!(infer_from_paths(&tests), None);
    }

    #[test]
    fn words_end_at_case_and_signs() {
        for (text, divided) in [
            ("bloodGlucose_CRFBean-X 510(k)", " blood glucose crf bean x 510 k "),
            ("f(k) \u{fffd}a", " f k a "),
        ] {
            assert_eq!(String::from_utf8(words(text)).as_deref(), Ok(divided));
        }
        assert_eq!(words(""), b" ");
    }

    #[test]
    fn a_phrase_counts_where_its_words_stand() {
        let count = |text: &str| -> Vec<(&str, u32)> {
            let mut count = Counter::new(3);
            count.text(text);
            count.found.iter().map(|((phrase, _), (_, times))| (*phrase, *times)).collect()
        };
        assert_eq!(count("FHIR"), [("fhir", 1)]);
        assert_eq!(count("fhirs, aFhirB, xfhir"), [("fhir", 1)]);
        assert_eq!(count("ClosedLoop closed-loop closed loops"), [("closed loop", 2)]);
        let mut phrases: Vec<&str> = PHRASES.meaning.iter().map(|(phrase, ..)| *phrase).collect();
        let all = phrases.len();
        phrases.dedup();
        assert_eq!(phrases.len(), all, "a phrase that stands twice");
        assert!(phrases.iter().all(|phrase| phrase.len() >= 3), "the search finds none shorter");
    }
}
