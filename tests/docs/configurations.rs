//! Every configuration of a page is checked without a fault, and served on a host that has its
//! interfaces.

use std::time::Duration;

use super::blocks::{Block, Order};
use super::common::world::World;

const LIMIT: Duration = Duration::from_secs(60);

#[test]
fn every_configuration_of_a_page_is_served_on_the_interface_that_it_names() {
    let blocks: Vec<Block> = super::all_blocks()
        .into_iter()
        .filter(|block| block.language == "toml" && block.order == Order::ByLanguage)
        .collect();
    assert!(blocks.len() > 5, "{} configurations", blocks.len());
    let wrong: Vec<String> = blocks.iter().filter_map(|block| serve(block).err()).collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}

/// On a host of its own.
fn serve(block: &Block) -> Result<(), String> {
    let world = World::new("page");
    furnish(&world, &block.text);
    let end = "
        ringboot check || exit 10
        ringboot serve 2>/tmp/log &
        timeout 30 sh -c 'until grep -q READY /run/ready; do sleep 0.02; done' || { cat /tmp/log; \
        exit 11; }
        timeout 30 sh -c 'while ringboot status | grep -q SILENT; do sleep 0.1; done'
        ringboot status || exit 12
        kill %1; wait %1 || { cat /tmp/log; exit 13; }";
    let said = world.run(end, LIMIT);
    let printed = super::stories::without_asides(&format!("{}{}", said.stdout, said.stderr));
    match () {
        () if !said.status.success() => Err(format!("{block}: {}\n{printed}", said.status)),
        // What a page tells to write is right, and is in force.
        () if printed.contains("ERROR")
            || printed.contains("SILENT")
            || printed.contains("warning:") =>
        {
            Err(format!("{block}:\n{printed}"))
        }
        () => Ok(()),
    }
}

/// The files and interfaces that a configuration names, and the configuration itself in its place.
pub(crate) fn furnish(world: &World, configuration: &str) {
    let table: toml::Table =
        toml::from_str(configuration).unwrap_or_else(|error| panic!("{configuration}\n{error}"));
    world.write("/etc/ringboot/ringboot.toml", configuration.as_bytes());
    let root = table.get("root").and_then(|root| root.as_str()).unwrap_or("/srv/netboot");
    let root =
        if root.starts_with('/') { root.to_owned() } else { format!("/etc/ringboot/{root}") };
    world.prepare(&format!("mkdir -p {root}"));
    for place in
        table.get("links").and_then(|links| links.get("allow")?.as_array()).into_iter().flatten()
    {
        world.prepare(&format!("mkdir -p {}", place.as_str().expect("a path")));
    }
    for entry in
        table.get("menu").and_then(|menu| menu.get("entry")?.as_array()).into_iter().flatten()
    {
        if let Some(kernel) = entry.get("kernel").and_then(toml::Value::as_str) {
            world.write(&format!("{root}/{kernel}"), &super::common::root::kernel_image());
        }
        let initrd = entry.get("initrd").cloned().unwrap_or(toml::Value::Array(Vec::new()));
        let all = initrd.as_array().cloned().unwrap_or_else(|| vec![initrd]);
        for name in all.iter().filter_map(toml::Value::as_str) {
            world.write(&format!("{root}/{name}"), &[0x1f, 0x8b, 8, 0, 0, 0, 0, 0].repeat(512));
        }
    }
    let server = table.get("server").and_then(|server| server.get("interfaces")?.as_array());
    for name in server.into_iter().flatten().filter_map(toml::Value::as_str) {
        world.interface(name, "172.30.0.150/24");
    }
    for subnet in
        table.get("dhcp").and_then(|dhcp| dhcp.get("subnet")?.as_array()).into_iter().flatten()
    {
        if let Some(name) = subnet.get("interface").and_then(toml::Value::as_str) {
            world.interface(name, &address_in(subnet["subnet"].as_str().unwrap()));
        }
    }
}

/// The address .150 of a network, as the pages have it, with the length of its prefix.
fn address_in(network: &str) -> String {
    let (base, prefix) = network.split_once('/').unwrap();
    let (front, _) = base.rsplit_once('.').unwrap();
    format!("{front}.150/{prefix}")
}
