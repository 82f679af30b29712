//! stub
use std::sync::Arc;
#[derive(Debug)]
pub struct HttpPlan {
    pub listen: Vec<std::net::SocketAddr>,
}
impl From<&crate::config::Config> for HttpPlan {
    fn from(c: &crate::config::Config) -> Self {
        Self { listen: c.http.listen.clone() }
    }
}
#[derive(Debug)]
pub struct Core(Vec<std::net::TcpListener>, super::drain::Drain);
impl Core {
    pub fn new(
        l: Vec<std::net::TcpListener>,
        _: &HttpPlan,
        _: &Arc<super::shelf::Names>,
        _: &crate::observe::events::Events,
        d: &super::drain::Drain,
        _: &super::tftp_core::HttpBusy,
    ) -> Self {
        Self(l, d.clone())
    }
    pub fn run(self, ready: &mut dyn FnMut()) -> Result<(), String> {
        ready();
        while !self.1.is_ordered() {
            std::thread::sleep(std::time::Duration::from_millis(100));
        }
        Ok(())
    }
}
