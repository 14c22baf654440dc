//! What must hold of a stored resource for a change of it to be made (`If-Match`, `If-None-Match: *`).

/// A condition on what is there at the moment of the change.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Precondition {
    #[default]
    None,
    /// `If-Match: *`: it is there.
    Exists,
    /// `If-Match` with a tag: this is its version. Versions begin at 1; 0 stands for a tag that no version has.
    Version(i64),
    /// `If-None-Match: *`: it is not there yet.
    Absent,
}

impl Precondition {
    /// Whether it holds of what is there; `current` is its version, `None` when there is nothing.
    pub fn holds(self, current: Option<i64>) -> bool {
        match self {
            Self::None => true,
            Self::Exists => current.is_some(),
            Self::Version(version) => current == Some(version),
            Self::Absent => current.is_none(),
        }
    }

    /// Words for the caller of one that does not hold.
    pub fn unmet(self) -> &'static str {
        match self {
            Self::None | Self::Version(_) => {
                "This was changed since the version that If-Match names, or is not there. Read it again, then send the \
                 change for that version."
            }
            Self::Exists => "If-Match asks for something that is there already, and there is nothing yet.",
            Self::Absent => {
                "If-None-Match asks for something that is not there yet, and it is. Read it, then send a change of it."
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_condition_is_about_what_is_there() {
        for (condition, at_nothing, at_three) in [
            (Precondition::None, true, true),
            (Precondition::Exists, false, true),
            (Precondition::Version(3), false, true),
            (Precondition::Version(2), false, false),
            (Precondition::Version(0), false, false),
            (Precondition::Absent, true, false),
        ] {
            let holds = (condition.holds(None), condition.holds(Some(3)));
            assert_eq!(holds, (at_nothing, at_three), "{condition:?}");
        }
    }
}
