//! Where the value of each setting comes from: defaults, file, environment and command line, one over the other.
//!
//! Invariants:
//! 1. A later layer wins as a whole: default, file, environment, command line. Lists are replaced, not joined.
//! 2. A key that is not in the table is an error in every layer; nothing is ever ignored.
//! 3. Every message names the key and the place that the value came from.

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use toml::de::{DeTable, DeValue};

use super::error::ConfigError;
use super::settings::{ENV_PREFIX, Kind, SETTINGS, Setting};
use super::units::parse_bytes;
use crate::util::printable::{Escape, Limit, printable};

/// Where a value came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SettingSource {
    Default,
    /// With the line.
    File(PathBuf, usize),
    Environment(String),
    CommandLine,
}

impl fmt::Display for SettingSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File(path, line) => write!(f, "{} line {line}", path.display()),
            Self::Environment(name) => write!(f, "environment {name}"),
            Self::CommandLine => f.write_str("command line"),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum SettingValue {
    Text(String),
    Integer(u64),
    List(Vec<String>),
}

impl fmt::Display for SettingValue {
    /// As TOML.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let quoted = |text: &str| toml::Value::from(text).to_string();
        match self {
            Self::Text(text) => f.write_str(&quoted(text)),
            Self::Integer(number) => number.fmt(f),
            Self::List(items) => {
                write!(f, "[{}]", items.iter().map(|item| quoted(item)).collect::<Vec<_>>().join(", "))
            }
        }
    }
}

/// The value of every setting, from whichever layer won.
#[derive(Clone, Debug)]
pub struct SettingLayers {
    values: BTreeMap<&'static str, (SettingValue, SettingSource)>,
}

impl SettingLayers {
    /// The defaults.
    #[must_use]
    pub fn new() -> Self {
        let mut settings = Self { values: BTreeMap::new() };
        let mut text = String::new();
        for setting in SETTINGS {
            let _ = writeln!(text, "{} = {}", setting.key, setting.default);
        }
        let table = DeTable::parse(&text).expect("the defaults are TOML");
        settings.take_table("", table.get_ref(), &|_| SettingSource::Default).expect("the defaults are known settings");
        settings
    }

    /// Lays a file over what is there.
    pub fn file(&mut self, path: &Path, text: &str) -> Result<(), ConfigError> {
        let table = DeTable::parse(text).map_err(|error| {
            let line = error.span().map_or(1, |span| line_of(text, span.start));
            ConfigError::config(format!("{} line {line} is not TOML: {}", path.display(), one_line(error.message())))
        })?;
        self.take_table("", table.get_ref(), &|start| SettingSource::File(path.to_owned(), line_of(text, start)))
    }

    /// Lays the environment over what is there. `BLOCKSYNCD_HOME` and `BLOCKSYNCD_CONFIG` are the command line's; the
    /// variables that Kubernetes makes for a service named `blocksyncd` are nobody's.
    pub fn environment(&mut self, vars: impl IntoIterator<Item = (String, String)>) -> Result<(), ConfigError> {
        for (name, text) in vars {
            let Some(rest) = name.strip_prefix(ENV_PREFIX) else { continue };
            let kubernetes = rest == "PORT" || rest.starts_with("PORT_") || rest.starts_with("SERVICE_");
            if matches!(rest, "HOME" | "CONFIG") || kubernetes {
                continue;
            }
            let Some(setting) = SETTINGS.iter().find(|setting| setting.env() == name) else {
                let near = nearest(&name, SETTINGS.iter().map(Setting::env));
                return Err(ConfigError::config(format!("the environment's {name} is no setting: {near}")));
            };
            self.text(setting, &text, SettingSource::Environment(name));
        }
        Ok(())
    }

    /// Lays one `key=value` of the command line over what is there.
    pub fn assignment(&mut self, assignment: &str) -> Result<(), ConfigError> {
        let Some((key, text)) = assignment.split_once('=') else {
            return Err(ConfigError::usage(format!("--set {assignment}: write it as key=value")));
        };
        let Some(setting) = Setting::find(key) else {
            return Err(ConfigError::usage(format!("--set {assignment}: there is no setting `{key}`: {}", near(key))));
        };
        self.text(setting, text, SettingSource::CommandLine);
        Ok(())
    }

    fn text(&mut self, setting: &'static Setting, text: &str, source: SettingSource) {
        let value = match setting.kind {
            Kind::List => SettingValue::List(
                text.split(',').map(str::trim).filter(|t| !t.is_empty()).map(str::to_owned).collect(),
            ),
            _ => SettingValue::Text(text.to_owned()),
        };
        self.values.insert(setting.key, (value, source));
    }

    fn take_table(
        &mut self,
        section: &str,
        table: &DeTable<'_>,
        source: &dyn Fn(usize) -> SettingSource,
    ) -> Result<(), ConfigError> {
        for (name, value) in table {
            let key =
                if section.is_empty() { name.get_ref().to_string() } else { format!("{section}.{}", name.get_ref()) };
            let source_here = source(name.span().start);
            let Some(setting) = Setting::find(&key) else {
                let is_section = SETTINGS.iter().any(|setting| setting.split().0 == key);
                match value.get_ref() {
                    DeValue::Table(inner) if section.is_empty() && is_section => {
                        self.take_table(&key, inner, source)?;
                        continue;
                    }
                    // The keys below a section's header are its own, also those with a dot.
                    DeValue::Table(_) if SETTINGS.iter().any(|setting| setting.split().0 == name.get_ref()) => {
                        let name = name.get_ref();
                        return Err(ConfigError::config(format!(
                            "{source_here}: what stands below [{section}] is of `{section}`: a setting of `{name}` is written \
                             below [{name}], without `{name}.`"
                        )));
                    }
                    _ => {
                        let shown = printable(&key, Escape::DebugText, Limit::Chars(80));
                        let message = format!("{source_here}: there is no setting `{}`: {}", shown, near(&key));
                        return Err(ConfigError::config(message));
                    }
                }
            };
            let value = take_value(value.get_ref()).ok_or_else(|| {
                ConfigError::config(format!("`{key}` ({source_here}) must be {}", setting.kind.expected()))
            })?;
            self.values.insert(setting.key, (value, source_here));
        }
        Ok(())
    }

    fn get(&self, key: &'static str) -> &(SettingValue, SettingSource) {
        self.values.get(key).expect("every setting has a default")
    }

    /// Where the value of `key` came from.
    #[must_use]
    pub fn source(&self, key: &'static str) -> &SettingSource {
        &self.get(key).1
    }

    /// A refusal of the value of `key`: what is wrong with it, and what to do.
    #[must_use]
    pub fn refuse(&self, key: &'static str, why: impl fmt::Display) -> ConfigError {
        ConfigError::config(format!("`{key}` ({}): {why}", self.source(key)))
    }

    fn mismatch(&self, key: &'static str) -> ConfigError {
        let kind = Setting::find(key).map_or(Kind::Text, |setting| setting.kind);
        self.refuse(key, format_args!("{} is wrong here, it must be {}", self.get(key).0, kind.expected()))
    }

    /// `None` when it is unset, which is written as an empty text.
    pub fn text_of(&self, key: &'static str) -> Result<Option<&str>, ConfigError> {
        match &self.get(key).0 {
            SettingValue::Text(text) if text.is_empty() => Ok(None),
            SettingValue::Text(text) => Ok(Some(text)),
            _ => Err(self.mismatch(key)),
        }
    }

    /// Of a setting with a fixed set of words.
    pub fn choice(&self, key: &'static str) -> Result<&'static str, ConfigError> {
        let (Some(text), Some(Setting { kind: Kind::Choice(words), .. })) = (self.text_of(key)?, Setting::find(key))
        else {
            return Err(self.mismatch(key));
        };
        words.iter().find(|word| **word == text).copied().ok_or_else(|| self.mismatch(key))
    }

    /// Made absolute against `home`; `None` when it is unset.
    pub fn path(&self, key: &'static str, home: &Path) -> Result<Option<PathBuf>, ConfigError> {
        Ok(self.text_of(key)?.map(|text| home.join(text)))
    }

    /// As [`SettingLayers::path`], of a setting that must be set.
    pub fn required_path(&self, key: &'static str, home: &Path) -> Result<PathBuf, ConfigError> {
        self.path(key, home)?.ok_or_else(|| self.mismatch(key))
    }

    pub fn list(&self, key: &'static str) -> Result<&[String], ConfigError> {
        match &self.get(key).0 {
            SettingValue::List(items) => Ok(items),
            _ => Err(self.mismatch(key)),
        }
    }

    /// A list of numbers.
    pub fn numbers(&self, key: &'static str) -> Result<Vec<u32>, ConfigError> {
        let number =
            |item: &String| item.parse().map_err(|_| self.refuse(key, format_args!("`{item}` is not a number")));
        self.list(key)?.iter().map(number).collect()
    }

    pub fn integer(&self, key: &'static str) -> Result<u64, ConfigError> {
        match &self.get(key).0 {
            SettingValue::Integer(number) => Ok(*number),
            SettingValue::Text(text) => text.parse().map_err(|_| self.mismatch(key)),
            SettingValue::List(_) => Err(self.mismatch(key)),
        }
    }

    /// As [`SettingLayers::integer`], of a setting that may be unset.
    pub fn optional_integer(&self, key: &'static str) -> Result<Option<u64>, ConfigError> {
        match &self.get(key).0 {
            SettingValue::Text(text) if text.is_empty() => Ok(None),
            _ => self.integer(key).map(Some),
        }
    }

    pub fn duration(&self, key: &'static str) -> Result<Duration, ConfigError> {
        let text = self.text_of(key)?.ok_or_else(|| self.mismatch(key))?;
        humantime::parse_duration(text).map_err(|_| self.mismatch(key))
    }

    /// A number of bytes; `None` when it is unset.
    pub fn bytes(&self, key: &'static str) -> Result<Option<u64>, ConfigError> {
        match &self.get(key).0 {
            SettingValue::Integer(number) => Ok(Some(*number)),
            SettingValue::Text(text) if text.is_empty() => Ok(None),
            SettingValue::Text(text) => parse_bytes(text).map(Some).ok_or_else(|| self.mismatch(key)),
            SettingValue::List(_) => Err(self.mismatch(key)),
        }
    }

    /// The effective settings as a file that could be read again, each with where it came from.
    #[must_use]
    pub fn to_toml(&self) -> String {
        let mut out = String::new();
        let mut section = "";
        for setting in SETTINGS {
            let (value, source) = self.get(setting.key);
            let (this, name) = setting.split();
            if this != section {
                section = this;
                let _ = writeln!(out, "\n[{section}]");
            }
            let line = format!("{name} = {value}");
            let _ = writeln!(out, "{line:<48} # {source}");
        }
        out
    }
}

impl Default for SettingLayers {
    fn default() -> Self {
        Self::new()
    }
}

fn take_value(value: &DeValue<'_>) -> Option<SettingValue> {
    let integer = |value: &DeValue<'_>| {
        let number = value.as_integer()?;
        u64::from_str_radix(&number.as_str().replace('_', ""), number.radix()).ok()
    };
    match value {
        DeValue::String(text) => Some(SettingValue::Text(text.to_string())),
        DeValue::Integer(_) => integer(value).map(SettingValue::Integer),
        DeValue::Array(items) => items
            .iter()
            .map(|item| match item.get_ref() {
                DeValue::String(text) => Some(text.to_string()),
                item => integer(item).map(|number| number.to_string()),
            })
            .collect::<Option<Vec<_>>>()
            .map(SettingValue::List),
        _ => None,
    }
}

fn near(key: &str) -> String {
    nearest(key, SETTINGS.iter().map(|setting| setting.key.to_owned()))
}

/// What was probably meant.
fn nearest(word: &str, known: impl Iterator<Item = String>) -> String {
    let near = known.map(|known| (distance(word, &known), known)).min();
    match near {
        Some((distance, known)) if distance <= 3 => format!("was `{known}` meant?"),
        _ => "the config.toml that `blocksyncd init` makes has them all".into(),
    }
}

/// Levenshtein's, of the first 64 characters.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<_>, Vec<_>) = (a.chars().take(64).collect(), b.chars().take(64).collect());
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.iter().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, to) in b.iter().enumerate() {
            let replace = diagonal + usize::from(from != to);
            diagonal = row[j + 1];
            row[j + 1] = replace.min(row[j] + 1).min(row[j + 1] + 1);
        }
    }
    row[b.len()]
}

/// The line, from 1, of a byte offset.
pub(super) fn line_of(text: &str, offset: usize) -> usize {
    text.as_bytes().iter().take(offset).filter(|byte| **byte == b'\n').count() + 1
}

/// A message of another library, as one line.
pub(super) fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
