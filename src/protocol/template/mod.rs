//! Renders a file `NAME.j2`, served as `NAME`, for the requesting machine: strict Jinja2 with
//! limits.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::net::IpAddr;

use minijinja::syntax::SyntaxConfig;
use minijinja::{AutoEscape, Environment, ErrorKind, Template, UndefinedBehavior, Value};
use serde::{Deserialize, Serialize};

use crate::dhcp::subnet::Subnet;
use crate::model::machine::{Arch, FirmwareRole, Machine};
use crate::model::spelling::find_nearest_word;

mod chains;
mod names;
#[cfg(test)]
mod tests;
mod vocabulary;

pub use vocabulary::VARIABLES;

/// The suffix of a template's file name, which its URL does not have.
pub const SUFFIX: &str = ".j2";
/// Longest template, bytes; an answer file has a few thousand.
pub const SOURCE_MAX_BYTES: usize = 1024 * 1024;
/// Longest rendered file, bytes.
pub const OUTPUT_MAX_BYTES: usize = 16 * 1024 * 1024;
/// Steps of the engine, some tens of milliseconds: stops a template with an endless loop.
const FUEL: u64 = 1_000_000;

/// The client, and the facts about the machine at its address.
#[derive(Clone, Copy, Debug)]
pub struct TemplateContext<'a> {
    /// The source address of the request.
    pub client: IpAddr,
    /// None: the address has no lease, so its machine is unknown.
    pub machine: Option<&'a Machine>,
    /// From the machine's reservation.
    pub hostname: Option<&'a str>,
    /// The subnet that the client is in.
    pub subnet: Option<&'a Subnet>,
    /// The server's address as the client sees it.
    pub server: IpAddr,
    /// The port of the HTTP server.
    pub http_port: u16,
}

/// The variables of a template for one client, and for each unknown fact the reason and a hint. The
/// server serializes them for the process that renders.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TemplateFacts {
    known: Value,
    unknown: BTreeMap<String, (String, String)>,
}

impl TemplateFacts {
    /// Collects the variables and the reasons for unknown facts.
    pub fn from_context(context: &TemplateContext<'_>) -> Self {
        let known = collect_variables(context);
        let is_unknown = |name: &&str| known.iter().all(|(known, _)| known != name);
        let reasons = VARIABLES.into_iter().filter(is_unknown).filter_map(|name| {
            let (what, hint) = explain_unknown_fact(name, context)?;
            Some((name.to_owned(), (what, hint.to_owned())))
        });
        let unknown = reasons.collect();
        Self { known: make_value_map(known), unknown }
    }
}

/// Why a template produced no file: `ks.cfg.j2:12:8: what`, and a hint below it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TemplateError {
    /// The template's path under the root.
    pub template: String,
    /// From 1; None: the template as a whole is at fault.
    pub line: Option<usize>,
    /// In characters, from 1.
    pub column: Option<usize>,
    /// The fault, as one sentence.
    pub what: String,
    /// What to do about it.
    pub hint: String,
    /// The template is correct, but needs facts that are unknown for this client.
    pub refused: bool,
}

impl TemplateError {
    /// An error of the template as a whole, without a line.
    pub fn for_template(name: &str, what: impl Into<String>, hint: &str) -> Self {
        Self {
            template: name.to_owned(),
            line: None,
            column: None,
            what: what.into(),
            hint: hint.to_owned(),
            refused: false,
        }
    }
}

impl fmt::Display for TemplateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.template)?;
        for place in [self.line, self.column].into_iter().flatten() {
            write!(f, ":{place}")?;
        }
        write!(f, ": {}\n  hint: {}", self.what, self.hint)
    }
}

impl std::error::Error for TemplateError {}

/// Renders a template. `name` is its path under the root, with the suffix, for errors.
///
/// An unknown fact is an undefined variable: `{% if mac is defined %}` tests it, and printing it is
/// an error that says which fact is missing and why. So every client gets a template that needs no
/// such fact.
///
/// Output and steps are bounded whatever the template does. The stack is not: the server calls this
/// in a separate process.
pub fn render_template_source(
    name: &str,
    source: &str,
    facts: &TemplateFacts,
) -> Result<String, TemplateError> {
    // The engine builds and walks the syntax tree by recursion, so a source must pass this check
    // first.
    admit_source(name, source)?;
    let environment = build_environment();
    let template = environment
        .template_from_named_str(name, source)
        .map_err(|error| explain_template_error(name, source, &error, facts))?;
    // A wrong name is an error also in a branch that this client does not take.
    check_known_names(name, &environment, &template)?;

    let mut output = LimitedOutput::default();
    let rendered = template.render_captured_to(facts.known.clone(), &mut output);
    match rendered {
        Ok(_) => String::from_utf8(output.bytes).map_err(|_| {
            TemplateError::for_template(name, "the rendered file is not UTF-8", "check the filters")
        }),
        // The engine reports a full output as a failed write, which names no cause.
        Err(_) if output.overflowed => {
            let what = format!("the rendered file would have more than {OUTPUT_MAX_BYTES} bytes");
            Err(TemplateError::for_template(name, what, "look for a loop that prints too much"))
        }
        Err(error) => Err(explain_template_error(name, source, &error, facts)),
    }
}

/// Checks what is wrong with a template for every client: syntax, size, chains, names.
pub fn compile_template(name: &str, source: &str) -> Result<(), TemplateError> {
    admit_source(name, source)?;
    let nobody = TemplateFacts { known: make_value_map([]), unknown: BTreeMap::new() };
    let environment = build_environment();
    let compiled = environment.template_from_named_str(name, source);
    let template =
        compiled.map_err(|error| explain_template_error(name, source, &error, &nobody))?;
    check_known_names(name, &environment, &template)
}

thread_local! {
    /// The last source whose names are all known. A rack requests one answer file machine after
    /// machine, and the check of its names builds the syntax tree once more, which costs half as
    /// much as the rendering.
    static NAMES_JUDGED: RefCell<String> = const { RefCell::new(String::new()) };
}

/// Refuses a name that is not in the closed list of variables: it is a typing error, even where
/// `default()` would hide it.
fn check_known_names(
    name: &str,
    environment: &Environment<'_>,
    template: &Template<'_, '_>,
) -> Result<(), TemplateError> {
    if NAMES_JUDGED.with_borrow(|judged| judged == template.source()) {
        return Ok(());
    }
    let Some(names::UnknownName { name: variable, offset }) =
        names::find_unknown_name(environment, template, build_syntax())
    else {
        // A source with an unknown name is not remembered: every client gets the error.
        NAMES_JUDGED.with_borrow_mut(|judged| template.source().clone_into(judged));
        return Ok(());
    };

    let (line, column) = locate_offset(template.source(), offset);
    let (what, hint) = explain_no_variable(&variable);
    Err(TemplateError {
        line: Some(line),
        column: Some(column),
        ..TemplateError::for_template(name, what, &hint)
    })
}

fn explain_no_variable(variable: &str) -> (String, String) {
    let near = find_nearest_word(variable, &VARIABLES)
        .map_or_else(String::new, |near| format!("did you mean `{near}`? "));
    (
        format!("there is no variable `{variable}`"),
        format!("{near}the variables are: {}", VARIABLES.join(", ")),
    )
}

/// Refuses a source that is too long, or that would overflow the engine's stack.
fn admit_source(name: &str, source: &str) -> Result<(), TemplateError> {
    ensure_source_fits(name, source)?;
    let Some(chains::ChainTooLong { offset, kind }) =
        chains::find_long_chain(source, build_syntax())
    else {
        return Ok(());
    };

    // Each hint names a form whose depth does not grow with its length.
    let (what, hint) = match kind {
        chains::ChainKind::Elif => (
            format!("the {{% if %}} has more than {} {{% elif %}}", chains::CHAIN_MAX),
            "put the values into a map and look them up: {% set names = {\"10.0.0.1\": \"a\"} %}{{ \
             names[ip] }}",
        ),
        chains::ChainKind::Expression => (
            format!("the expression is a chain of more than {} tokens", chains::CHAIN_MAX),
            "put the values into a list or a map and go through it with {% for %}",
        ),
    };
    let (line, column) = locate_offset(source, offset);
    Err(TemplateError {
        line: Some(line),
        column: Some(column),
        ..TemplateError::for_template(name, what, hint)
    })
}

/// Refuses a source that is longer than [`SOURCE_MAX_BYTES`].
pub fn ensure_source_fits(name: &str, source: &str) -> Result<(), TemplateError> {
    if source.len() <= SOURCE_MAX_BYTES {
        return Ok(());
    }
    let what = format!("the template has {} bytes, more than {SOURCE_MAX_BYTES}", source.len());
    Err(TemplateError::for_template(
        name,
        what,
        "serve large files as they are, without a template",
    ))
}

/// Line and column, in characters, of a byte of the source; both from 1.
fn locate_offset(source: &str, offset: usize) -> (usize, usize) {
    let before = source.get(..offset).unwrap_or(source);
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    (before.matches('\n').count() + 1, before[line_start..].chars().count() + 1)
}

/// The dialect: Jinja2 as Ansible configures it (no blank line in place of a statement), strict,
/// without escaping.
fn build_environment() -> Environment<'static> {
    let mut environment = Environment::new();
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    environment.set_auto_escape_callback(|_| AutoEscape::None);
    environment.set_syntax(build_syntax());
    environment.set_fuel(Some(FUEL));
    environment.set_debug(true); // places in errors, nothing else
    environment
}

fn build_syntax() -> SyntaxConfig {
    // The builder fails only for invalid delimiters, and these are the defaults of Jinja2.
    SyntaxConfig::builder()
        .trim_blocks(true)
        .keep_trailing_newline(true)
        .build()
        .unwrap_or_default()
}

fn explain_template_error(
    name: &str,
    source: &str,
    error: &minijinja::Error,
    facts: &TemplateFacts,
) -> TemplateError {
    let detail = error.detail().map_or_else(|| error.kind().to_string(), str::to_owned);
    let undefined = find_undefined_variable(error, &detail);
    // `uuid.x` is undefined too while `uuid` is known: then no fact is missing, and the template is
    // at fault.
    let reason = undefined.and_then(|variable| facts.unknown.get(variable));
    let refused = reason.is_some();
    let (what, hint) = match (reason, undefined) {
        (Some((what, hint)), _) => (what.clone(), hint.clone()),
        (None, Some(variable)) if !VARIABLES.contains(&variable) => explain_no_variable(variable),
        (None, _) => (detail, advise_on_error(error.kind()).to_owned()),
    };
    let at = error.range().map(|range| locate_offset(source, range.start));
    let (line, column) = (at.map(|(line, _)| line).or(error.line()), at.map(|(_, column)| column));
    TemplateError { template: name.to_owned(), line, column, what, hint, refused }
}

/// The variable of an undefined value: the engine's message has the expression in backquotes,
/// `subnet.routers[0]`.
fn find_undefined_variable<'d>(error: &minijinja::Error, detail: &'d str) -> Option<&'d str> {
    let expression =
        detail.split('`').nth(1).filter(|_| error.kind() == ErrorKind::UndefinedError)?;
    expression.split(['.', '[']).next()
}

fn advise_on_error(kind: ErrorKind) -> &'static str {
    match kind {
        ErrorKind::SyntaxError => {
            "every {{, {% and {# needs its end, and every {% if %} and {% for %} its {% end... %}"
        }
        ErrorKind::UndefinedError => {
            "test it first: {% if x is defined %}, or give a default: {{ x | default(\"\") }}"
        }
        ErrorKind::UnknownFilter
        | ErrorKind::UnknownTest
        | ErrorKind::UnknownFunction
        | ErrorKind::UnknownMethod => {
            "templates have the filters, tests and functions of Jinja2, none of Ansible or Cobbler"
        }
        ErrorKind::TemplateNotFound | ErrorKind::BadInclude => {
            "a template cannot use include, import or extends"
        }
        ErrorKind::OutOfFuel => "look for a loop that does not end",
        _ => "see docs/templates.md",
    }
}

/// Why this fact is unknown for this client, and a hint. None: the name is no such fact.
fn explain_unknown_fact(
    variable: &str,
    context: &TemplateContext<'_>,
) -> Option<(String, &'static str)> {
    let client = context.client.to_canonical();
    let machine = context.machine.map(|machine| machine.mac);
    match (variable, machine) {
        ("mac" | "mac_dashed" | "uuid" | "arch" | "firmware" | "hostname", None) => Some((
            format!("`{variable}` needs the machine, but {client} holds no lease"),
            "let ringboot assign the addresses, or test {% if mac is defined %} first",
        )),
        ("uuid" | "arch" | "firmware", Some(mac)) => Some((
            format!("`{variable}` is unknown: {mac} did not send it when it booted"),
            "test {% if ... is defined %} first, or give a default",
        )),
        ("hostname", Some(mac)) => Some((
            format!("no hostname is reserved for {mac}"),
            "give it one in a [[dhcp.subnet.host]]",
        )),
        ("subnet", _) => Some((
            format!("{client} is in no configured subnet"),
            "add a [[dhcp.subnet]]; mode = \"off\" is enough",
        )),
        _ => None,
    }
}

/// The variables that have a value for this client.
fn collect_variables(context: &TemplateContext<'_>) -> Vec<(&'static str, Value)> {
    let server = match context.server.to_canonical() {
        IpAddr::V4(v4) => v4.to_string(),
        IpAddr::V6(v6) => format!("[{v6}]"),
    };
    let port =
        if context.http_port == 80 { String::new() } else { format!(":{}", context.http_port) };
    let mut known = vec![
        ("ip", Value::from(context.client.to_canonical().to_string())),
        ("server", Value::from(context.server.to_canonical().to_string())),
        ("http_port", Value::from(context.http_port)),
        ("http", Value::from(format!("http://{server}{port}"))),
    ];
    known.extend(context.subnet.map(|subnet| ("subnet", make_subnet_value(subnet))));
    if let Some(machine) = context.machine {
        known.extend(list_machine_variables(machine));
        known.extend(context.hostname.map(|name| ("hostname", Value::from(name))));
    }
    known
}

fn make_value_map(entries: impl IntoIterator<Item = (&'static str, Value)>) -> Value {
    Value::from(entries.into_iter().collect::<BTreeMap<_, _>>())
}

fn list_machine_variables(machine: &Machine) -> Vec<(&'static str, Value)> {
    let mut known = vec![
        ("mac", Value::from(machine.mac.to_string())),
        ("mac_dashed", Value::from(machine.mac.to_dashed())),
    ];
    known.extend(machine.uuid.map(|uuid| ("uuid", Value::from(uuid.to_string()))));
    if let Some(firmware) = machine.firmware {
        let role = match firmware.role {
            FirmwareRole::Pxe => "pxe",
            FirmwareRole::HttpBoot => "http-boot",
            FirmwareRole::Ipxe => "ipxe",
            FirmwareRole::RaspberryPi => "raspberry-pi",
            FirmwareRole::UBoot => "u-boot",
            FirmwareRole::System => "system",
        };
        known.push(("firmware", Value::from(role)));
        known.extend(firmware.arch.map(|arch| ("arch", Value::from(format_arch_name(arch)))));
    }
    known
}

/// The architecture's name in the configuration file.
fn format_arch_name(arch: Arch) -> String {
    match arch {
        Arch::Bios => "bios".to_owned(),
        Arch::UefiIa32 => "uefi-ia32".to_owned(),
        Arch::UefiX64 => "uefi-x64".to_owned(),
        Arch::UefiArm64 => "uefi-arm64".to_owned(),
        Arch::Other(number) => format!("other-{number}"),
    }
}

fn make_subnet_value(subnet: &Subnet) -> Value {
    let list = |addresses: &[std::net::Ipv4Addr]| {
        Value::from_iter(addresses.iter().map(ToString::to_string))
    };
    let network = subnet.network;
    make_value_map([
        ("network", Value::from(format!("{}/{}", network.address, network.prefix))),
        ("address", Value::from(network.address.to_string())),
        ("prefix", Value::from(network.prefix)),
        ("netmask", Value::from(network.mask().to_string())),
        ("routers", list(&subnet.routers)),
        ("domain_name", Value::from(subnet.domain_name.clone().unwrap_or_default())),
        ("domain_name_servers", list(&subnet.domain_name_servers)),
        ("ntp_servers", list(&subnet.ntp_servers)),
    ])
}

/// Collects the engine's output, up to the limit.
#[derive(Default)]
struct LimitedOutput {
    bytes: Vec<u8>,
    overflowed: bool,
}

impl io::Write for LimitedOutput {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.bytes.len() + bytes.len() > OUTPUT_MAX_BYTES {
            self.overflowed = true;
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
