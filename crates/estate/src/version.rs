use std::fmt;
use std::str::FromStr;

/// An api-version: `2025-11-01` or `2026-09-01-preview`. Any well-formed one is accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ApiVersion {
    date: u32,
    // Stable sorts behind the preview of the same day.
    stable: bool,
}

/// The text is not an api-version.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("an api-version has the form `YYYY-MM-DD` or `YYYY-MM-DD-preview`")]
pub struct ApiVersionError;

impl ApiVersion {
    /// The version that knows every property: used where no client named one.
    pub const NEWEST: Self = Self::preview(2026, 9, 1);

    /// A stable version.
    pub const fn stable(year: u32, month: u32, day: u32) -> Self {
        Self { date: year * 10_000 + month * 100 + day, stable: true }
    }

    /// A preview version.
    pub const fn preview(year: u32, month: u32, day: u32) -> Self {
        Self { stable: false, ..Self::stable(year, month, day) }
    }

    /// Whether this is a preview.
    pub const fn is_preview(self) -> bool {
        !self.stable
    }

    /// The day as a number, `20251101`.
    pub(crate) const fn date(self) -> u32 {
        self.date
    }
}

impl FromStr for ApiVersion {
    type Err = ApiVersionError;

    fn from_str(text: &str) -> Result<Self, ApiVersionError> {
        let lower = text.to_ascii_lowercase();
        let (day, stable) = lower.strip_suffix("-preview").map_or((lower.as_str(), true), |day| (day, false));
        let parts: Vec<&str> = day.split('-').collect();
        let [year, month, day] = parts.as_slice() else { return Err(ApiVersionError) };
        let number = |text: &str, length: usize, range: std::ops::RangeInclusive<u32>| {
            let well_formed = text.len() == length && text.bytes().all(|b| b.is_ascii_digit());
            text.parse().ok().filter(|value| well_formed && range.contains(value)).ok_or(ApiVersionError)
        };
        let (year, month, day) = (number(year, 4, 2000..=9999)?, number(month, 2, 1..=12)?, number(day, 2, 1..=31)?);
        Ok(Self { stable, ..Self::stable(year, month, day) })
    }
}

impl fmt::Display for ApiVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04}-{:02}-{:02}", self.date / 10_000, self.date / 100 % 100, self.date % 100)?;
        f.write_str(if self.stable { "" } else { "-preview" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, valid: bool) {
        let parsed = text.parse::<ApiVersion>();
        assert_eq!(parsed.is_ok(), valid, "{text}");
        if let Ok(version) = parsed {
            assert_eq!(version.to_string(), text.to_lowercase());
        }
    }

    #[test]
    fn api_versions() {
        for text in ["2025-11-01", "2026-09-01-preview", "2025-11-01-PREVIEW"] {
            check(text, true);
        }
        for text in
            ["", "2025-11", "2025-13-01", "2025-11-32", "25-11-01", "2025-11-01-beta", "2025-1-01", "+025-11-01"]
        {
            check(text, false);
        }
        assert!(ApiVersion::preview(2025, 11, 1) < ApiVersion::stable(2025, 11, 1));
    }
}
