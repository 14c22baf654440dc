//! The NHS number: ten digits with a modulus 11 check digit (domain.md 3).

use std::fmt;

/// A valid NHS number. Can't hold one that fails modulus 11 or has ten equal digits.
///
/// `Debug` is masked on purpose: the number must never reach a log by accident.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NhsNumber([u8; 10]);

/// Why a text is not an NHS number. Never holds the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidNhsNumber {
    #[error("an NHS number has exactly 10 digits, without spaces")]
    Format,
    /// The same of a number that a person typed.
    #[error("an NHS number has exactly 10 digits, with nothing but spaces or hyphens between them")]
    Typed,
    /// Of the kind that was in use before 1996: a few letters, then digits.
    #[error(
        "an NHS number with letters is of the old style, not in use since 1996: trace the person for the one of 10 digits"
    )]
    OldStyle,
    #[error("the check digit is wrong: please check the number for a typing error")]
    CheckDigit,
}

impl NhsNumber {
    /// Parses exactly ten ASCII digits, as machines send them; what people type is for [`NhsNumber::typed`].
    ///
    /// # Errors
    /// [`InvalidNhsNumber`] when the text is not ten digits, all digits are equal, or modulus 11 fails.
    pub fn parse(text: &str) -> Result<Self, InvalidNhsNumber> {
        let digits: Option<[u8; 10]> = text.as_bytes().try_into().ok();
        let Some(digits) = digits.filter(|digits| digits.iter().all(u8::is_ascii_digit)) else {
            return Err(if is_old_style(text) { InvalidNhsNumber::OldStyle } else { InvalidNhsNumber::Format });
        };
        let weighted: u32 = digits.iter().take(9).zip((2..=10).rev()).map(|(d, w)| u32::from(d - b'0') * w).sum();
        let check = match 11 - weighted % 11 {
            11 => 0,
            other => other,
        };
        let all_equal = digits.iter().all(|d| *d == digits[0]);
        if all_equal || check != u32::from(digits[9] - b'0') {
            return Err(InvalidNhsNumber::CheckDigit);
        }
        Ok(Self(digits))
    }

    /// Parses a number as people type it: white space around it is ignored, and between its digits spaces (also no-break
    /// and thin ones), hyphens and dashes. docs/nhs-numbers.md says where people type.
    ///
    /// # Errors
    /// [`InvalidNhsNumber`] as [`NhsNumber::parse`].
    pub fn typed(text: &str) -> Result<Self, InvalidNhsNumber> {
        let text = text.trim();
        let is_digit = |sign: char| sign.is_ascii_digit();
        let bare = if text.starts_with(is_digit) && text.ends_with(is_digit) {
            Self::parse(&text.chars().filter(|sign| !parts_digits(*sign)).collect::<String>())
        } else {
            Self::parse(text)
        };
        bare.map_err(|fault| if fault == InvalidNhsNumber::Format { InvalidNhsNumber::Typed } else { fault })
    }

    /// The ten digits. For storage and FHIR bodies only, never for logs or messages.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

/// Spaces (not tabs and line ends), hyphens and dashes.
fn parts_digits(sign: char) -> bool {
    matches!(sign,
        ' ' | '\u{a0}' | '\u{2000}'..='\u{200a}' | '\u{202f}' | '\u{205f}' | '\u{3000}'
            | '-' | '\u{2010}'..='\u{2015}' | '\u{2212}')
}

/// Two to five letters, then two to eight digits, however they are parted.
fn is_old_style(text: &str) -> bool {
    let signs: Vec<u8> = text.bytes().filter(|sign| !matches!(sign, b' ' | b'-' | b'/' | b'.')).collect();
    let letters = signs.iter().take_while(|sign| sign.is_ascii_alphabetic()).count();
    let digits = signs.iter().skip(letters).take_while(|sign| sign.is_ascii_digit()).count();
    (2..=5).contains(&letters) && (2..=8).contains(&digits) && letters + digits == signs.len()
}

impl fmt::Debug for NhsNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("NhsNumber(..)")
    }
}

impl serde::Serialize for NhsNumber {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> serde::Deserialize<'de> for NhsNumber {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
        Self::parse(&text).map_err(serde::de::Error::custom)
    }
}

/// True if the text holds ten digits in a row (spaces and hyphens between them allowed) that are a valid NHS number.
/// Used to keep numbers out of free texts that are logged or mirrored.
pub fn contains_nhs_number(text: &str) -> bool {
    let digits: Vec<(usize, u8)> = text.bytes().enumerate().filter(|(_, b)| b.is_ascii_digit()).collect();
    digits.windows(10).any(|window| {
        let near = window.windows(2).all(|pair| pair[1].0 - pair[0].0 <= 2);
        let number: String = window.iter().map(|(_, b)| char::from(*b)).collect();
        near && NhsNumber::parse(&number).is_ok()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn check_digit_by_definition(first_nine: u32) -> Option<u32> {
        let sum: u32 = (0..9).map(|i| first_nine / 10_u32.pow(i) % 10 * (i + 2)).sum();
        match 11 - sum % 11 {
            11 => Some(0),
            10 => None,
            digit => Some(digit),
        }
    }

    #[test]
    fn the_published_test_numbers_are_valid() {
        for text in ["9990000018", "9990000026", "9990000034", "9990000042", "9990000050", "9990000069", "9990000107"] {
            assert!(NhsNumber::parse(text).is_ok(), "{text}");
        }
    }

    #[test]
    fn malformed_texts_are_refused() {
        for text in [
            "",
            "999000001",
            "99900000188",
            "999000001a",
            "999 000 001",
            "９９９００００１８８",
            " 9990000018",
            "-990000018",
        ] {
            assert_eq!(NhsNumber::parse(text), Err(InvalidNhsNumber::Format), "{text}");
        }
        for text in ["9912003899", "0000000000", "1111111111", "9999999999", "9990000019"] {
            assert_eq!(NhsNumber::parse(text), Err(InvalidNhsNumber::CheckDigit), "{text}");
        }
    }

    #[test]
    fn numbers_of_the_old_style_are_told_as_such() {
        for text in ["ABC123", "ABCD 123 4", "LKJHB/123/45", "nd-4471", "AB.12", " ABCD 1234 "] {
            for read in [NhsNumber::parse(text), NhsNumber::typed(text)] {
                assert_eq!(read, Err(InvalidNhsNumber::OldStyle), "{text}");
            }
        }
        for text in ["A1", "patient-1", "ABCDEF12", "AB123456789", "AB12C", "12AB", "999000001a", "ÄÖ12", "AB", "AB_12"]
        {
            assert_eq!(NhsNumber::parse(text), Err(InvalidNhsNumber::Format), "{text}");
            assert_eq!(NhsNumber::typed(text), Err(InvalidNhsNumber::Typed), "{text}");
        }
    }

    #[test]
    fn what_people_type_is_read_and_nothing_else() {
        for text in [
            "9990000018",
            "999 000 0018",
            "  999 000 0018\t\r\n",
            "999-000-0018",
            "999\u{2013}000\u{2014}0018",
            "999 - 000 - 0018",
            "999\u{a0}000\u{202f}0018",
            "999\u{2009}000\u{2007}0018",
            "\u{a0}999\u{2212}000\u{2011}0018\u{3000}",
        ] {
            assert_eq!(NhsNumber::typed(text), NhsNumber::parse("9990000018"), "{text:?}");
            assert!(text == "9990000018" || NhsNumber::parse(text).is_err(), "{text:?}");
        }
        for text in [
            "",
            " ",
            "-9990000018",
            "9990000018-",
            "999.000.0018",
            "999/000/0018",
            "999_000_0018",
            "999,000,0018",
            "999\t000\t0018",
            "999\n0000018",
            "(999) 000 0018",
            "+999 000 0018",
            "'9990000018",
            "999\u{200b}0000018",
            "\u{feff}9990000018",
            "９９９ ０００ ００１８",
            "999 000 001O",
            "999 000 001",
            "999 000 00188",
            "NHS 999 000 0018",
        ] {
            assert_eq!(NhsNumber::typed(text), Err(InvalidNhsNumber::Typed), "{text:?}");
        }
        assert_eq!(NhsNumber::typed("999 000 0019"), Err(InvalidNhsNumber::CheckDigit));
    }

    #[test]
    fn debug_never_shows_the_digits() {
        let number = NhsNumber::parse("9990000018").map(|n| format!("{n:?}"));
        assert_eq!(number, Ok("NhsNumber(..)".to_owned()));
    }

    proptest! {
        #[test]
        fn exactly_the_defined_check_digit_is_accepted(first_nine in 0_u32..1_000_000_000, last in 0_u32..10) {
            let text = format!("{first_nine:09}{last}");
            let equal = text.bytes().all(|b| b == text.as_bytes()[0]);
            let expected = !equal && check_digit_by_definition(first_nine) == Some(last);
            prop_assert_eq!(NhsNumber::parse(&text).is_ok(), expected);
        }

        #[test]
        fn one_wrong_digit_or_two_swapped_neighbours_never_pass(first_nine in 0_u32..1_000_000_000, at in 0_usize..10, other in 0_u8..10) {
            let Some(check) = check_digit_by_definition(first_nine) else { return Ok(()) };
            let good = format!("{first_nine:09}{check}");
            let mut wrong = good.clone().into_bytes();
            wrong[at] = b'0' + other;
            let wrong = String::from_utf8(wrong).unwrap_or_default();
            prop_assert!(wrong == good || NhsNumber::parse(&wrong).is_err());
            let mut swapped = good.clone().into_bytes();
            swapped.swap(at, (at + 1) % 10);
            let swapped = String::from_utf8(swapped).unwrap_or_default();
            prop_assert!(at == 9 || swapped == good || NhsNumber::parse(&swapped).is_err());
        }

        #[test]
        fn a_number_hidden_in_a_text_is_found(first_nine in 0_u32..1_000_000_000, before in "[a-zA-Z.]{0,9}", after in "[a-zA-Z_.]{0,9}") {
            let Some(check) = check_digit_by_definition(first_nine) else { return Ok(()) };
            let number = format!("{first_nine:09}{check}");
            prop_assume!(NhsNumber::parse(&number).is_ok());
            let inside = format!("{before}{number}{after}");
            prop_assert!(contains_nhs_number(&inside));
        }
    }
}
