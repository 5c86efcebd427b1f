//! `strftime` for templates that print today's date. The moment is passed in: this crate reads no clock.

use std::fmt::Write as _;

/// A moment, and the offset of the place where it is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment {
    /// Seconds since 1970-01-01 00:00 UTC.
    pub unix_seconds: i64,
    /// Seconds east of UTC.
    pub offset_seconds: i32,
}

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
const DAYS: [&str; 7] = ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];

struct Civil {
    year: i64,
    month: usize,
    day: i64,
    hour: i64,
    minute: i64,
    second: i64,
    weekday: usize,
    day_of_year: i64,
}

impl Moment {
    /// The moment by a `strftime` format, in English, as Python's C locale writes it. Unknown letters stay as they
    /// are.
    #[must_use]
    pub fn format(&self, format: &str) -> String {
        let civil = self.civil();
        let mut out = String::new();
        let mut letters = format.chars();
        while let Some(letter) = letters.next() {
            if letter != '%' {
                out.push(letter);
                continue;
            }
            let Some(letter) = letters.next() else {
                out.push('%');
                break;
            };
            if letter == '-' {
                let mut field = String::new();
                civil.write(&mut field, letters.next().unwrap_or('%'));
                let short = field.trim_start_matches('0');
                out.push_str(if short.is_empty() && !field.is_empty() { "0" } else { short });
            } else {
                civil.write(&mut out, letter);
            }
        }
        out
    }

    /// Howard Hinnant's `civil_from_days`, on years that begin in March.
    fn civil(&self) -> Civil {
        let seconds = self.unix_seconds.saturating_add(i64::from(self.offset_seconds));
        let (days, time) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
        let shifted = days + 719_468;
        let era = shifted.div_euclid(146_097);
        let day_of_era = shifted.rem_euclid(146_097);
        let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_march_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let march_month = (5 * day_of_march_year + 2) / 153;
        let month = if march_month < 10 { march_month + 3 } else { march_month - 9 };
        let year = year_of_era + era * 400 + i64::from(month <= 2);
        let leap = i64::from(year % 4 == 0 && (year % 100 != 0 || year % 400 == 0));
        let day_of_year = if month > 2 { day_of_march_year + 60 + leap } else { day_of_march_year - 305 };
        Civil {
            year,
            month: month as usize,
            day: day_of_march_year - (153 * march_month + 2) / 5 + 1,
            hour: time / 3600,
            minute: time / 60 % 60,
            second: time % 60,
            weekday: (days + 4).rem_euclid(7) as usize,
            day_of_year,
        }
    }
}

impl Civil {
    fn write(&self, out: &mut String, letter: char) {
        let month = MONTHS[self.month - 1];
        let day = DAYS[self.weekday];
        let twelve = (self.hour + 11) % 12 + 1;
        // Writing to a string does not fail.
        let _ = match letter {
            'Y' => write!(out, "{}", self.year),
            'y' => write!(out, "{:02}", self.year.rem_euclid(100)),
            'm' => write!(out, "{:02}", self.month),
            'B' => write!(out, "{month}"),
            'b' | 'h' => write!(out, "{}", &month[..3]),
            'd' => write!(out, "{:02}", self.day),
            'e' => write!(out, "{:2}", self.day),
            'j' => write!(out, "{:03}", self.day_of_year),
            'A' => write!(out, "{day}"),
            'a' => write!(out, "{}", &day[..3]),
            'H' => write!(out, "{:02}", self.hour),
            'I' => write!(out, "{twelve:02}"),
            'M' => write!(out, "{:02}", self.minute),
            'S' => write!(out, "{:02}", self.second),
            'p' => write!(out, "{}", if self.hour < 12 { "AM" } else { "PM" }),
            'F' => write!(out, "{}-{:02}-{:02}", self.year, self.month, self.day),
            'T' => write!(out, "{:02}:{:02}:{:02}", self.hour, self.minute, self.second),
            '%' => write!(out, "%"),
            other => write!(out, "%{other}"),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_moments() {
        fn check(unix_seconds: i64, format: &str, expected: &str) {
            assert_eq!(Moment { unix_seconds, offset_seconds: 0 }.format(format), expected);
        }
        check(0, "%d %b %Y %H:%M:%S %A %j", "01 Jan 1970 00:00:00 Thursday 001");
        check(951_782_400, "%Y-%m-%d %a %j", "2000-02-29 Tue 060");
        check(1_735_689_599, "%B %d, %Y %I:%M %p %j", "December 31, 2024 11:59 PM 366");
        check(-1, "%F %T", "1969-12-31 23:59:59");
        check(4_107_542_400, "%-d/%-m/%y", "1/3/00");
        check(0, "%q%", "%q%");
        let seoul = Moment { unix_seconds: 1_735_689_599, offset_seconds: 9 * 3600 };
        assert_eq!(seoul.format("%F %H시"), "2025-01-01 08시");
    }
}
