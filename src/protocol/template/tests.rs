//! Templates of known machines and strangers, with the texts of the errors.
#![allow(clippy::unwrap_used, clippy::cast_possible_truncation)]
use std::net::Ipv4Addr;

use super::*;
use crate::dhcp::subnet::{AnsweringMode, ClientAdmission};
use crate::model::machine::{Firmware, Mac, Uuid};
use crate::model::network::Ipv4Network;

const MACHINE: Machine = Machine {
    mac: Mac([0x52, 0x54, 0, 0x12, 0x34, 0x10]),
    uuid: Some(Uuid([
        0x33, 0x22, 0x11, 0, 0x55, 0x44, 0x77, 0x66, 0x88, 0x99, 0xaa, 0xbb, 0xcc, 0xdd, 0xee, 0,
    ])),
    firmware: Some(Firmware { role: FirmwareRole::Pxe, arch: Some(Arch::UefiX64) }),
};

fn subnet() -> Subnet {
    Subnet {
        relay: true,
        mode: AnsweringMode::Server,
        clients: ClientAdmission::Any,
        routers: vec![Ipv4Addr::new(192, 168, 4, 1)],
        domain_name: Some("example.org".to_owned()),
        domain_name_servers: vec![Ipv4Addr::new(192, 168, 4, 150), Ipv4Addr::new(192, 168, 4, 151)],
        default_lease_time_s: 600,
        firmware_lease_time_s: 600,
        max_lease_time_s: 600,
        ..Subnet::new(Ipv4Network { address: Ipv4Addr::new(192, 168, 4, 0), prefix: 24 })
    }
}

fn stranger() -> TemplateContext<'static> {
    TemplateContext {
        client: "192.168.4.77".parse().unwrap(),
        machine: None,
        hostname: None,
        subnet: None,
        server: "192.168.4.150".parse().unwrap(),
        http_port: 80,
    }
}

fn known() -> TemplateContext<'static> {
    TemplateContext { machine: Some(&MACHINE), hostname: Some("node1"), ..stranger() }
}

fn render(
    name: &str,
    source: &str,
    context: &TemplateContext<'_>,
) -> Result<String, TemplateError> {
    render_template_source(name, source, &TemplateFacts::from_context(context))
}

fn complaint(source: &str, context: &TemplateContext<'_>) -> String {
    render("ks.cfg.j2", source, context).expect_err("a complaint").to_string()
}

#[test]
fn a_template_that_was_judged_vouches_for_itself_alone() {
    let right = "{{ mac | default(\"none\") }}";
    let wrong = "{{ macc | default(\"none\") }}";
    for _ in 0..2 {
        assert!(render("a.j2", right, &known()).is_ok());
        let said = complaint(wrong, &known());
        assert!(said.contains("there is no variable `macc`"), "{said}");
    }
}

#[test]
fn b16_a_file_is_made_for_the_machine_that_asks() {
    let subnet = subnet();
    let context = TemplateContext { subnet: Some(&subnet), http_port: 8080, ..known() };
    let source = "# {{ mac }} {{ mac_dashed }} {{ uuid }} {{ arch }} {{ firmware }}\n\
        network --bootproto=dhcp --device={{ mac }} --hostname={{ hostname }}.{{ \
        subnet.domain_name }}\n\
        {% for dns in subnet.domain_name_servers %}\nnameserver {{ dns }}\n{% endfor %}\n\
        url --url={{ http }}/centos/os/ # {{ ip }}/{{ subnet.prefix }} via {{ \
        subnet.routers[0] }}, {{ server }}\n";
    assert_eq!(
        render("ks.cfg.j2", source, &context).unwrap(),
        "# 52:54:00:12:34:10 52-54-00-12-34-10 00112233-4455-6677-8899-aabbccddee00 uefi-x64 \
         pxe\n\
         network --bootproto=dhcp --device=52:54:00:12:34:10 --hostname=node1.example.org\n\
         nameserver 192.168.4.150\nnameserver 192.168.4.151\n\
         url --url=http://192.168.4.150:8080/centos/os/ # 192.168.4.77/24 via 192.168.4.1, \
         192.168.4.150\n"
    );
}

#[test]
fn b17_what_needs_the_machine_is_refused_to_strangers_with_the_reason() {
    let error =
        render("ks.cfg.j2", "lang en\nhost {{ hostname }}\n", &stranger()).expect_err("refused");
    assert!(error.refused);
    assert_eq!(
        error.to_string(),
        "ks.cfg.j2:2:9: `hostname` needs the machine, but 192.168.4.77 holds no lease\n  \
         hint: let ringboot assign the addresses, or test {% if mac is defined %} first"
    );
    for variable in ["mac", "mac_dashed", "uuid", "arch", "firmware", "hostname"] {
        for usage in [
            "{{ X }}",
            "{{ X | upper }}",
            "{% if X %}{% endif %}",
            "{% set y = X %}{{ y }}",
            "{{ 'a' ~ X }}",
            "{{ X.y }}",
        ] {
            let source = usage.replace('X', variable);
            let text = complaint(&source, &stranger());
            assert!(text.contains(&format!("`{variable}` needs the machine")), "{source}: {text}");
        }
    }
}

#[test]
fn b17_what_needs_no_machine_is_rendered_for_anybody() {
    let source = "{{ http }}{% if mac is defined %} {{ mac }}{% endif %} {{ hostname | \
                  default('new') }}";
    assert_eq!(render("a.j2", source, &stranger()).unwrap(), "http://192.168.4.150 new");
    assert_eq!(
        render("a.j2", source, &known()).unwrap(),
        "http://192.168.4.150 52:54:00:12:34:10 node1"
    );
}

#[test]
fn b17_facts_that_a_known_machine_lacks_are_named_too() {
    let bare = Machine { uuid: None, firmware: None, ..MACHINE };
    let context = TemplateContext { machine: Some(&bare), ..stranger() };
    assert!(complaint("{{ uuid }}", &context).contains("52:54:00:12:34:10 did not send it"));
    assert!(
        complaint("{{ hostname }}", &context)
            .contains("no hostname is reserved for 52:54:00:12:34:10")
    );
    let text = complaint("{{ subnet.netmask }}", &context);
    assert!(text.starts_with("ks.cfg.j2:1:4: 192.168.4.77 is in no configured subnet"), "{text}");
}

#[test]
fn a_misspelt_variable_is_not_blamed_on_the_machine() {
    for context in [stranger(), known()] {
        let error = render("a.j2", "{% if mac is defined %}{% endif %}\n{{ hostnam }}", &context)
            .expect_err("unknown");
        assert!(!error.refused);
        assert!(error.to_string().starts_with(
            "a.j2:2:4: there is no variable `hostnam`\n  hint: did you mean `hostname`? the \
                 variables are: ip, server"
        ));
    }
    let subnet = subnet();
    let text =
        complaint("{{ subnet.routres }}", &TemplateContext { subnet: Some(&subnet), ..known() });
    assert!(
        text.starts_with("ks.cfg.j2:1:4: `subnet.routres` is undefined\n  hint: test it first"),
        "{text}"
    );
}

#[test]
fn mistakes_are_told_with_their_line_and_a_way_out() {
    for (source, line, hint) in [
        ("a\n{% if ip %}\nb\n", "ks.cfg.j2:", "needs its end"),
        ("a\n{{ ip | uper }}", "ks.cfg.j2:2", "none of Ansible"),
        ("{% include 'other' %}", "ks.cfg.j2:1", "cannot use include"),
        ("{% extends '/etc/passwd' %}", "ks.cfg.j2:1", "cannot use include"),
        ("{{ 1 / 0 }}", "ks.cfg.j2:1", "hint: "),
    ] {
        let text = complaint(source, &known());
        assert!(text.starts_with(line) && text.contains(hint), "{source}: {text}");
    }
}

#[test]
fn a_template_ends_in_time_and_within_bounds() {
    let endless = "{% for a in range(9999) %}{% for b in range(9999) %}{% set x = a + b %}{% \
                   endfor %}{% endfor %}";
    assert!(complaint(endless, &known()).contains("a loop that does not end"));
    let wide = format!("{{% for i in range(99999) %}}{}{{% endfor %}}", "x".repeat(1000));
    assert!(complaint(&wide, &known()).contains("more than 16777216 bytes"));
    assert!(complaint(&"x".repeat(SOURCE_MAX_BYTES + 1), &known()).contains("more than 1048576"));
    let deep = "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}";
    assert!(complaint(deep, &known()).starts_with("ks.cfg.j2:1"));
}

#[test]
fn b21_nothing_is_escaped_and_the_last_line_keeps_its_end() {
    let text = render("seed.xml.j2", "<a>{{ '<&>' }}</a>\n", &stranger()).unwrap();
    assert_eq!(text, "<a><&></a>\n");
}

#[test]
fn a_long_chain_is_refused_with_its_line_before_it_is_compiled() {
    let elifs = format!("a\n{{% if 0 %}}\n{}{{% endif %}}", "{% elif 0 %}\n".repeat(20_000));
    let text = complaint(&elifs, &stranger());
    let expected = "ks.cfg.j2:10003:4: the {% if %} has more than 10000 {% elif %}\n  hint: \
                    put the values into a map";
    assert!(text.starts_with(expected), "{text}");
    assert_eq!(compile_template("ks.cfg.j2", &elifs).unwrap_err().to_string(), text);
    let chain = format!("\n{{{{ ip{} }}}}", " ~ ip".repeat(20_000));
    let text = complaint(&chain, &stranger());
    assert!(
        text.starts_with("ks.cfg.j2:2:") && text.contains("a chain of more than 10000"),
        "{text}"
    );
}

#[test]
fn facts_and_complaints_are_the_same_in_another_process() {
    let subnet = subnet();
    for context in [stranger(), TemplateContext { subnet: Some(&subnet), ..known() }] {
        let facts = TemplateFacts::from_context(&context);
        let json = serde_json::to_string(&facts).unwrap();
        assert_eq!(serde_json::from_str::<TemplateFacts>(&json).unwrap(), facts);
    }
    let error = render("a.j2", "{{ mac }}", &stranger()).unwrap_err();
    let json = serde_json::to_string(&error).unwrap();
    assert_eq!(serde_json::from_str::<TemplateError>(&json).unwrap(), error);
    assert_eq!(
        compile_template("a.j2", "{{ mac }}"),
        Ok(()),
        "who lacks what is no matter of the template"
    );
}

#[test]
fn a_name_that_nobody_gives_is_an_error_wherever_it_stands() {
    for (source, column, name) in [
        ("{{ hostnam | default(\"x\") }}", 4, "hostnam"),
        ("{% if hostnam is defined %}x{% endif %}", 7, "hostnam"),
        ("{{ mac | default(hostnam) }}", 18, "hostnam"),
        ("{{ mac | default(value=hostnam) }}", 24, "hostnam"),
        ("{% set x = hostnam | default(1) %}{{ x }}", 12, "hostnam"),
        ("{% for x in hostnam | default([]) %}{{ x }}{% endfor %}", 13, "hostnam"),
        ("{% macro m(a) %}{{ a }}{{ ipp | default(1) }}{% endmacro %}{{ m(1) }}", 27, "ipp"),
    ] {
        for error in [
            render("a.j2", source, &known()).unwrap_err(),
            compile_template("a.j2", source).unwrap_err(),
        ] {
            let what =
                format!("a.j2:1:{column}: there is no variable `{name}`\n  hint: did you mean `");
            assert!(error.to_string().starts_with(&what) && !error.refused, "{source}: {error}");
        }
    }
    for source in [
        "{% set x = 1 %}{{ x }}{% set a, b = [1, 2] %}{{ a }}{{ b }}",
        "{% for k, v in {\"a\": 1} | items %}{{ k }}{{ v }}{{ loop.index }}{% endfor %}",
        "{% macro m(a, b=1, c=2) %}{{ a }}{{ b }}{{ c }}{% endmacro %}{{ m(1) }}{% call m(1) \
         %}x{% endcall %}",
        "{% with x = 1, y = 2 %}{{ x }}{{ y }}{% endwith %}{% set ns = namespace(n=0) %}{% set \
         ns.n = 1 %}{{ ns.n }}",
        "{% if true %}{% set late = 1 %}{% endif %}{{ late }}{{ range(2) | list }}{{ dict(a=1) \
         }}",
        "{% set block %}x{% endset %}{{ block }}{% filter upper %}x{% endfilter %}{{ [1, 2] | \
         map(\"string\") | list }}",
        "{% block own %}{{ self.own is defined }}{% endblock %}{{ subnet.nothing is defined \
         }}{% raw %}{{ nobody }}{% endraw %}",
    ] {
        assert_eq!(compile_template("a.j2", source), Ok(()), "{source}");
    }
}

#[test]
fn every_documented_variable_is_there() {
    let subnet = subnet();
    let context = TemplateContext { subnet: Some(&subnet), ..known() };
    for variable in VARIABLES {
        assert!(render("a.j2", &format!("{{{{ {variable} }}}}"), &context).is_ok(), "{variable}");
    }
    assert_eq!(collect_variables(&context).len(), VARIABLES.len());
}
