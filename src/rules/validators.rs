//! Checks that a candidate can be what it looks like. They only drop: one ten-digit number in ten that
//! begins with 1 or 2 is a valid NPI, so a passed checksum never makes a finding stronger.

/// Numbers that the Social Security Administration or advertisements made public.
const SAMPLE_SSN: &[&[u8]] =
    &[b"078051120", b"219099999", b"457555462", b"123456789", b"111111111", b"333333333"];
/// The sample of the Medicare card.
const SAMPLE_MBI: &[u8] = b"1EG4TE5MK73";
/// Years of birth of living people, and of most records.
const BIRTH_YEARS: std::ops::RangeInclusive<u32> = 1890..=2035;

/// Whether `candidate` passes the validator of that name. Unknown names were refused when loading.
pub(super) fn passes(name: &str, candidate: &[u8]) -> bool {
    let digits: Vec<u8> = candidate.iter().copied().filter(u8::is_ascii_digit).collect();
    let plain: Vec<u8> =
        candidate.iter().filter(|byte| byte.is_ascii_alphanumeric()).map(u8::to_ascii_uppercase).collect();
    match name {
        "luhn" => digits.len() > 1 && luhn(&digits),
        "npi" => npi(&digits),
        "dea" => dea(&plain),
        "ssn" => ssn(&digits),
        "mbi" => mbi(&plain),
        "vin" => vin(&plain),
        "icd10" => icd10(&plain),
        "dob" => dob(candidate),
        "email_real" => email_real(candidate),
        "nanp_real" => nanp_real(&digits),
        "ip_public" => ip_public(candidate),
        "entropy" => entropy(candidate) >= 3.5,
        // Asked where the commit's day and the rules are known.
        "void_allowance" => true,
        _ => false,
    }
}

/// Shannon entropy in bits a byte.
pub(super) fn entropy(bytes: &[u8]) -> f64 {
    let mut counts = [0_u32; 256];
    for byte in bytes {
        counts[usize::from(*byte)] += 1;
    }
    let total = f64::from(u32::try_from(bytes.len()).unwrap_or(u32::MAX));
    counts
        .iter()
        .filter(|count| **count > 0)
        .map(|count| f64::from(*count) / total)
        .map(|p| -p * libm::log2(p))
        .sum()
}

/// The mod-10 checksum of cards and of NPIs.
pub(super) fn luhn(digits: &[u8]) -> bool {
    let sum: u32 = digits
        .iter()
        .rev()
        .enumerate()
        .map(|(place, digit)| {
            let digit = u32::from(digit - b'0') * if place % 2 == 1 { 2 } else { 1 };
            if digit > 9 { digit - 9 } else { digit }
        })
        .sum();
    sum.is_multiple_of(10)
}

fn npi(digits: &[u8]) -> bool {
    digits.len() == 10 && matches!(digits[0], b'1' | b'2') && luhn(&[b"80840", digits].concat())
}

fn dea(plain: &[u8]) -> bool {
    let &[first, second, ref digits @ ..] = plain else { return false };
    if !b"ABCDEFGHJKLMPRSTUX".contains(&first) || !second.is_ascii_alphanumeric() || digits.len() != 7 {
        return false;
    }
    let Some(digits) = digits
        .iter()
        .map(|byte| byte.is_ascii_digit().then(|| u32::from(byte - b'0')))
        .collect::<Option<Vec<u32>>>()
    else {
        return false;
    };
    (digits[0] + digits[2] + digits[4] + 2 * (digits[1] + digits[3] + digits[5])) % 10 == digits[6]
}

fn ssn(digits: &[u8]) -> bool {
    digits.len() == 9
        && !matches!(&digits[..3], b"000" | b"666")
        && digits[0] != b'9'
        && &digits[3..5] != b"00"
        && &digits[5..] != b"0000"
        && !SAMPLE_SSN.contains(&digits)
        // The range that was set aside for advertisements.
        && !digits.starts_with(b"98765432")
}

fn mbi(plain: &[u8]) -> bool {
    let letter = |byte: u8| byte.is_ascii_uppercase() && !b"SLOIBZ".contains(&byte);
    let mixed = |byte: u8| letter(byte) || byte.is_ascii_digit();
    let &[c, a1, an1, n1, a2, an2, n2, a3, a4, n3, n4] = plain else { return false };
    plain != SAMPLE_MBI
        && matches!(c, b'1'..=b'9')
        && [a1, a2, a3, a4].into_iter().all(letter)
        && [an1, an2].into_iter().all(mixed)
        && [n1, n2, n3, n4].iter().all(u8::is_ascii_digit)
}

fn vin(plain: &[u8]) -> bool {
    if plain.len() != 17 {
        return false;
    }
    let weights = [8_u32, 7, 6, 5, 4, 3, 2, 10, 0, 9, 8, 7, 6, 5, 4, 3, 2];
    let value = |byte: u8| match byte {
        b'0'..=b'9' => Some(u32::from(byte - b'0')),
        b'A'..=b'H' => Some(u32::from(byte - b'A') + 1),
        b'J'..=b'N' => Some(u32::from(byte - b'J') + 1),
        b'P' => Some(7),
        b'R' => Some(9),
        b'S'..=b'Z' => Some(u32::from(byte - b'S') + 2),
        _ => None,
    };
    let sum: Option<u32> =
        plain.iter().zip(weights).map(|(byte, weight)| value(*byte).map(|value| value * weight)).sum();
    sum.is_some_and(|sum| match sum % 11 {
        10 => plain[8] == b'X',
        rest => u32::from(plain[8]) == u32::from(b'0') + rest,
    })
}

fn icd10(plain: &[u8]) -> bool {
    let &[first, second, third, ref rest @ ..] = plain else { return false };
    first.is_ascii_uppercase()
        && first != b'U'
        && second.is_ascii_digit()
        && third.is_ascii_alphanumeric()
        && rest.len() <= 4
        && rest.iter().all(u8::is_ascii_alphanumeric)
}

/// A date in year-month-day, month/day/year, day.month.year or `YYYYMMDD`, of a year in which people were born.
fn dob(candidate: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(candidate) else { return false };
    let parts: Vec<&str> = text.split(['-', '/', '.']).collect();
    let number = |text: &str| text.parse::<u32>().ok();
    let (year, month, day) = match *parts.as_slice() {
        [all] if all.len() == 8 && all.is_ascii() => (&all[..4], &all[4..6], &all[6..]),
        [year, month, day] if year.len() == 4 => (year, month, day),
        [day, month, year] if text.contains('.') => (year, month, day),
        [month, day, year] => (year, month, day),
        _ => return false,
    };
    let (Some(year), Some(month), Some(day)) = (number(year), number(month), number(day)) else {
        return false;
    };
    // The first of January of a round year is what people write for "some date".
    let dummy = month == 1 && day == 1 && year % 10 == 0;
    BIRTH_YEARS.contains(&year) && !dummy && super::pack::is_date(&format!("{year:04}-{month:02}-{day:02}"))
}

/// An address outside the domains that are reserved for examples.
fn email_real(candidate: &[u8]) -> bool {
    let text = String::from_utf8_lossy(candidate).to_ascii_lowercase();
    let Some((local, domain)) = text.rsplit_once('@') else { return false };
    let Some((_, top)) = domain.rsplit_once('.') else { return false };
    let reserved = ["example", "test", "invalid", "localhost", "local"];
    let dummy = [
        "foo.com",
        "bar.com",
        "test.com",
        "domain.com",
        "email.com",
        "mail.com",
        "acme.com",
        "company.com",
        "abc.com",
    ];
    let no_person =
        ["noreply", "no-reply", "support", "info", "git", "admin", "user", "test", "you", "name", "email"];
    top.len() >= 2
        && top.bytes().all(|byte| byte.is_ascii_alphabetic())
        && !domain.split('.').any(|part| reserved.contains(&part))
        && !dummy.contains(&domain)
        && !domain.contains("noreply")
        && !no_person.contains(&local)
}

/// A number of the North American plan that can be somebody's: no fictional 555-01xx, no service code.
fn nanp_real(digits: &[u8]) -> bool {
    let digits = if digits.len() == 11 { digits.strip_prefix(b"1").unwrap_or(digits) } else { digits };
    let &[a, b, c, d, e, f, ref line @ ..] = digits else { return false };
    line.len() == 4
        && matches!(a, b'2'..=b'9')
        && matches!(d, b'2'..=b'9')
        && [b, c] != *b"11"
        && [e, f] != *b"11"
        && [a, b, c] != *b"555"
        && [d, e, f] != *b"555"
        && !matches!(
            [a, b, c],
            [b'8', b'0', b'0'] | [b'8', b'8', b'8'] | [b'8', b'7', b'7'] | [b'8', b'6', b'6']
        )
        && digits != b"2345678901"
}

fn ip_public(candidate: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(candidate) else { return false };
    let Ok(address) = text.parse::<std::net::Ipv4Addr>() else { return false };
    let [a, b, _, _] = address.octets();
    let shared = a == 100 && (64..128).contains(&b);
    let known = matches!(address.octets(), [8, 8, 8 | 4, 8 | 4] | [1, 1, 1, 1] | [1, 2, 3, 4]);
    !(address.is_private()
        || address.is_loopback()
        || address.is_link_local()
        || address.is_documentation()
        || address.is_broadcast()
        || address.is_multicast()
        || a == 0
        || a >= 240
        || shared
        || known)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::check::fill;

    #[test]
    fn each_validator_passes_the_real_and_drops_the_impossible() {
        let cases: &[(&str, &str, bool)] = &[
            ("ssn", "{{ssn}}", true),
            ("ssn", "000-12-3456", false),
            ("ssn", "900-12-3456", false),
            ("ssn", "078-05-1120", false),
            ("npi", "{{npi}}", true),
            ("npi", "1234567890", false),
            ("dea", "{{dea}}", true),
            ("dea", "AB1234567", false),
            ("mbi", "{{mbi}}", true),
            ("mbi", "1EG4-TE5-MK73", false),
            ("mbi", "1SG4-TE5-MK72", false),
            ("luhn", "4111 1111 1111 1111", true),
            ("luhn", "4111 1111 1111 1112", false),
            ("vin", "1M8GDM9AXKP042788", true),
            ("vin", "1M8GDM9A0KP042788", false),
            ("icd10", "E11.9", true),
            ("icd10", "11E", false),
            ("dob", "1961-04-23", true),
            ("dob", "23.4.1961", true),
            ("dob", "4/23/1961", true),
            ("dob", "1961-02-30", false),
            ("dob", "1970-01-01", false),
            ("dob", "2961-04-23", false),
            ("email_real", "jane.roe@hospital.org", true),
            ("email_real", "jane@example.com", false),
            ("email_real", "noreply@hospital.org", false),
            ("nanp_real", "(212) 736-5000", true),
            ("nanp_real", "212-555-0123", false),
            ("nanp_real", "111-111-1111", false),
            ("ip_public", "17.5.7.9", true),
            ("ip_public", "10.0.0.1", false),
            ("ip_public", "203.0.113.9", false),
            ("entropy", "aaaaaaaaaaaaaaaa", false),
            ("entropy", "q8Zr2LpX0vT7mWc4", true),
        ];
        for (name, candidate, passes) in cases {
            assert_eq!(super::passes(name, fill(candidate).as_bytes()), *passes, "{name} {candidate}");
        }
    }

    #[test]
    fn every_named_validator_exists() {
        for name in crate::rules::pack::VALIDATORS {
            let some = [
                "4111111111111111",
                "{{ssn}}",
                "{{npi}}",
                "{{dea}}",
                "{{mbi}}",
                "1M8GDM9AXKP042788",
                "E119",
                "1961-04-23",
                "a.b@hospital.org",
                "2127365000",
                "17.5.7.9",
                "q8Zr2LpX0vT7mWc4",
            ];
            assert!(some.iter().any(|candidate| passes(name, fill(candidate).as_bytes())), "{name}");
        }
    }
}
