//! stub
pub fn render_for(
    _: &str,
    _: &str,
    _: &crate::serve::shelf::TemplateFacts,
    _: &crate::snapshot::Snapshot,
) -> Result<String, String> {
    Err("no".into())
}
