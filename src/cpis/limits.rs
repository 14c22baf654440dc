//! The numbers of the rules, all configurable (design 2, 5).

/// Limits of plans, look-ups and the access history. The defaults are those of the national service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// A CPP or LAC stays visible so many days after its end.
    pub visible_days: u32,
    /// A UCP stays visible so many days after its end.
    pub unborn_visible_days: u32,
    /// A UCP counts as ended at most so many days after its start.
    pub unborn_longest_days: u32,
    /// From the birthday of this age on no CPP or LAC is shown. Years.
    pub adult_age: u32,
    /// Rows of a child's access history that a clinician is shown.
    pub history_rows: usize,
    /// An author is listed again for a child so many hours after the last listed access.
    pub relist_hours: u32,
    /// An authority of which no change was applied for so many hours is silent.
    pub silent_hours: u32,
    /// Days that refused records are kept, and shown to their authority until they are loaded.
    pub refused_kept_days: u32,
    /// Days after which they are shown again of themselves; 0 never.
    pub remind_days: u32,
    /// Days in which each stored number with a visible plan is traced again; 0 never.
    pub retrace_days: u32,
    /// Different children that a person may ask for within an hour before an alert is raised; 0: as many as they like.
    pub distinct_children: u32,
    /// The same of a device.
    pub distinct_children_of_devices: u32,
    /// Over the cap further children are refused.
    pub refuse_over_cap: bool,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            visible_days: 365,
            unborn_visible_days: 28,
            unborn_longest_days: 300,
            adult_age: 18,
            history_rows: 25,
            relist_hours: 24,
            silent_hours: 36,
            refused_kept_days: 90,
            remind_days: 7,
            retrace_days: 7,
            distinct_children: 100,
            distinct_children_of_devices: 0,
            refuse_over_cap: false,
        }
    }
}
