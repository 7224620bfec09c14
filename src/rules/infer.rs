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

use std::collections::BTreeMap;

use super::Class;

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

/// A phrase as its words and whole, with class and weight.
type Phrase = (Vec<&'static str>, &'static str, Class, u32);

/// Counts words.
struct Counter {
    /// By their first word.
    phrases: BTreeMap<&'static str, Vec<Phrase>>,
    found: BTreeMap<(&'static str, Class), (u32, u32)>,
    times: u32,
}

impl Counter {
    fn new(times: u32) -> Self {
        let mut phrases: BTreeMap<&'static str, Vec<_>> = BTreeMap::new();
        for (class, weight, words) in WORDS {
            for phrase in *words {
                let parts: Vec<&str> = phrase.split(' ').collect();
                phrases.entry(parts[0]).or_default().push((parts, *phrase, *class, *weight));
            }
        }
        Self { phrases, found: BTreeMap::new(), times }
    }

    /// Counts the words of a text; whether there was one.
    fn text(&mut self, text: &str) -> bool {
        let words = words(text);
        let mut any = false;
        for (at, word) in words.iter().enumerate() {
            for (parts, phrase, class, weight) in self.phrases.get(word.as_str()).into_iter().flatten() {
                let here = words[at..].iter().take(parts.len()).map(String::as_str).eq(parts.iter().copied());
                if here {
                    any = true;
                    let entry = self.found.entry((phrase, *class)).or_insert((*weight, 0));
                    entry.1 += 1;
                }
            }
        }
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

/// The words of a text in lower case; `camelCase` and every sign divide words.
fn words(text: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word = String::new();
    let mut before = ' ';
    let mut letters = text.chars().peekable();
    while let Some(letter) = letters.next() {
        // `bloodGlucose`, and `CRFBean`.
        let starts = letter.is_ascii_uppercase()
            && (before.is_ascii_lowercase()
                || before.is_ascii_uppercase() && letters.peek().is_some_and(char::is_ascii_lowercase));
        if (starts || !letter.is_ascii_alphanumeric()) && !word.is_empty() {
            words.push(std::mem::take(&mut word));
        }
        if letter.is_ascii_alphanumeric() {
            word.push(letter.to_ascii_lowercase());
        }
        before = letter;
    }
    if !word.is_empty() {
        words.push(word);
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
        assert_eq!(
            words("bloodGlucose_CRFBean-X 510(k)"),
            ["blood", "glucose", "crf", "bean", "x", "510", "k"]
        );
        assert_eq!(words("f(k) \u{fffd}a"), ["f", "k", "a"]);
    }
}
