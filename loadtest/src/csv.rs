//! The machines of a report as rows of a spreadsheet (RFC 4180).

use std::fmt::Write;

use ringboot_observe::events::MachineStage;

use crate::json::{BootRow, ReportDocument, spell_stage_name};

/// Microseconds of a second.
const US_PER_S: f64 = 1e6;

/// A row for each machine, in the order of power-on; times are seconds, empty if there was none.
pub(crate) fn format_csv(report: &ReportDocument) -> String {
    let stages: Vec<String> =
        MachineStage::ALL.map(|stage| format!("{}_s", spell_stage_name(stage))).into();
    let mut out =
        format!("machine,model,power_on_s,end_s,booted,stopped_in,boot_s,{}\r\n", stages.join(","));
    for (number, machine) in report.machines.iter().enumerate() {
        // A String takes whatever is written to it.
        let _ = write!(out, "{}\r\n", format_csv_row(number + 1, machine));
    }
    out
}

fn format_csv_row(number: usize, machine: &BootRow) -> String {
    let BootRow(start_us, end_us, booted, model, stages, stopped_in) = machine;
    let boot = if *booted { format_csv_seconds(machine.took_us()) } else { String::new() };
    let stages = stages
        .map(|us| if us > 0 { format_csv_seconds(us.into()) } else { String::new() })
        .join(",");
    let (model, stopped_in) =
        (quote_csv_field(model), quote_csv_field(stopped_in.as_deref().unwrap_or_default()));
    format!(
        "{number},{model},{},{},{booted},{stopped_in},{boot},{stages}",
        format_csv_seconds(*start_us),
        format_csv_seconds(*end_us)
    )
}

fn format_csv_seconds(us: u64) -> String {
    format!("{:.6}", us as f64 / US_PER_S)
}

/// Quotes a field if it needs quotes.
fn quote_csv_field(text: &str) -> String {
    if text.contains([',', '"', '\n', '\r']) {
        format!("\"{}\"", text.replace('"', "\"\""))
    } else {
        text.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json::tests::made_up;

    #[test]
    fn each_machine_is_a_row_with_as_many_fields_as_the_first() {
        let text = format_csv(&made_up(10));
        let rows: Vec<Vec<&str>> =
            text.split_terminator("\r\n").map(|row| row.split(',').collect()).collect();
        assert_eq!(rows.len(), 11);
        assert!(rows.iter().all(|row| row.len() == 7 + MachineStage::ALL.len()), "{text}");
        assert_eq!(
            rows[0][..8].join(","),
            "machine,model,power_on_s,end_s,booted,stopped_in,boot_s,dhcp_s"
        );
        assert_eq!(rows[1][..8].join(","), "1,bios-ipxe,0.000000,1.332000,true,,1.332000,0.003000");
        assert_eq!(
            rows[10].join(","),
            "10,uefi-pxe,0.000090,0.300090,false,kernel,,0.003000,,,,,,"
        );
    }

    #[test]
    fn a_field_with_a_comma_is_quoted() {
        assert_eq!(quote_csv_field("a,\"b\""), "\"a,\"\"b\"\"\"");
        assert_eq!(quote_csv_field("steps"), "steps");
    }
}
