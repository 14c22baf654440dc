//! Entity tags: a resource's version as HTTP carries it, `W/"3"` (R4 http.html#versioning; RFC 9110 8.8.3, 13.1).

/// What a header of entity tags names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EntityTags {
    /// `*`.
    Any,
    /// Versions, at least one; 0 for a tag that is well formed but was never given by this server.
    Versions(Vec<i64>),
}

/// The tag of a version.
pub fn of_version(version: i64) -> String {
    format!("W/\"{version}\"")
}

impl EntityTags {
    /// Reads `*`, or weak and strong tags separated by commas. R4's tags are weak, so that both kinds are compared alike.
    /// `None` when the text is neither.
    pub fn read(text: &str) -> Option<Self> {
        let mut rest = text.trim_matches([' ', '\t']);
        if rest == "*" {
            return Some(Self::Any);
        }
        let mut versions = Vec::new();
        loop {
            // A comma may stand inside a tag, so that the text can't be split by it.
            let opaque = rest.strip_prefix("W/").unwrap_or(rest).strip_prefix('"')?;
            let (tag, after) = opaque.split_once('"')?;
            if tag.chars().any(|c| c.is_ascii_control() || c == ' ') {
                return None;
            }
            versions.push(version(tag));
            rest = after.trim_start_matches([' ', '\t']);
            if rest.is_empty() {
                return Some(Self::Versions(versions));
            }
            rest = rest.strip_prefix(',')?.trim_start_matches([' ', '\t']);
        }
    }

    /// Whether one of them is this version's.
    pub fn names(&self, current: i64) -> bool {
        match self {
            Self::Any => true,
            Self::Versions(versions) => versions.contains(&current),
        }
    }
}

/// The version as this server spells it; any other spelling is another tag.
fn version(tag: &str) -> i64 {
    tag.parse().ok().filter(|version: &i64| *version > 0 && version.to_string() == tag).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_are_read_in_every_form_of_the_rfc() {
        let versions = |versions: &[i64]| Some(EntityTags::Versions(versions.to_vec()));
        for (text, expected) in [
            ("*", Some(EntityTags::Any)),
            (" * ", Some(EntityTags::Any)),
            ("W/\"3\"", versions(&[3])),
            ("\"12\"", versions(&[12])),
            ("W/\"3\" ,\"4\", W/\"5\"", versions(&[3, 4, 5])),
            ("\"a,b\", \"3\"", versions(&[0, 3])),
            ("\"\"", versions(&[0])),
            ("W/\"03\", W/\"+3\", W/\"0\", W/\"-1\", W/\"x\"", versions(&[0, 0, 0, 0, 0])),
        ] {
            assert_eq!(EntityTags::read(text), expected, "{text}");
        }
        for bad in ["", "3", "W/3", "w/\"3\"", "\"3", "3\"", "\"3\"\"4\"", "\"3\",", ",\"3\"", "*, \"3\"", "\"3 4\""] {
            assert_eq!(EntityTags::read(bad), None, "{bad}");
        }
    }

    #[test]
    fn what_was_given_is_named_again() {
        for version in [1, 2, 10, i64::MAX] {
            assert!(EntityTags::read(&of_version(version)).is_some_and(|tags| tags.names(version)));
        }
        assert!(!EntityTags::Versions(vec![0, 2]).names(1));
    }
}
