//! Renders templates in processes of their own, so that a template that breaks the engine costs its
//! request and never the server.
//!
//! Printing a list that contains itself overflows any stack, and a stack overflow ends a process.
//! So each request goes over a socket to a helper, which is this program itself; idle helpers wait
//! for the next request.

use std::fmt;
use std::fs;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::engine::confine::confine_process;
use crate::template::{self, OUTPUT_MAX_BYTES, SOURCE_MAX_BYTES, TemplateError, TemplateFacts};

/// The command of this program that makes it a helper.
pub const COMMAND: &str = "render-templates";
/// From request to answer; a helper that takes longer is killed.
const TIME_MAX: Duration = Duration::from_secs(5);
/// Address space of a helper, the program and the stack included.
const MEMORY_MAX_BYTES: u64 = 768 << 20;
/// How much the allocator of a helper maps at a time, in KiB: by default it maps more than the
/// helper's address space.
const ALLOCATOR: (&str, &str) = ("MIMALLOC_ARENA_RESERVE", "65536");
/// Stack of a helper, in bytes. The longest chains take about 10 MiB, and a value that a loop nests
/// into itself until its steps are used up about 100 MiB.
const STACK_BYTES: usize = 256 << 20;
/// A helper that took longer or produced more text ends after its answer, to return its memory.
const KEPT_AFTER: (Duration, usize) = (Duration::from_millis(200), 1 << 20);
/// Longest message in either direction, in bytes: 16 MiB of text, at most six bytes for each
/// character in JSON.
const MESSAGE_MAX_BYTES: usize = 100 << 20;

/// The request to a helper.
#[derive(Serialize, Deserialize)]
struct RenderRequest {
    name: String,
    source: String,
    /// None: the template is only compiled, and the text is empty.
    facts: Option<TemplateFacts>,
}

/// The rendered text, or why there is none.
type RenderResult = Result<String, TemplateError>;

/// Renders templates in helpers, one for each running request.
#[derive(Default)]
pub struct TemplateRenderer {
    idle: Mutex<Vec<RenderHelper>>,
    /// Called instead of a helper: a test program cannot become one.
    #[cfg(test)]
    pretends: Option<Box<dyn Fn() -> String + Send + Sync>>,
}

impl fmt::Debug for TemplateRenderer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TemplateRenderer").field("idle", &self.idle).finish_non_exhaustive()
    }
}

impl TemplateRenderer {
    /// Every template becomes the text that this function returns, in the time that it takes.
    #[cfg(test)]
    pub(crate) fn pretended(render: impl Fn() -> String + Send + Sync + 'static) -> Self {
        Self { pretends: Some(Box::new(render)), ..Self::default() }
    }

    /// As [`template::render_template_source`], in a helper. Waits for it.
    pub fn render(
        &self,
        name: &str,
        source: &str,
        facts: &TemplateFacts,
    ) -> Result<String, TemplateError> {
        self.ask(name, source, Some(facts))
    }

    /// As [`template::compile_template`], in a helper. Waits for it.
    pub fn compile(&self, name: &str, source: &str) -> Result<(), TemplateError> {
        self.ask(name, source, None).map(drop)
    }

    fn ask(
        &self,
        name: &str,
        source: &str,
        facts: Option<&TemplateFacts>,
    ) -> Result<String, TemplateError> {
        template::ensure_source_fits(name, source)?;
        #[cfg(test)]
        if let Some(render) = &self.pretends {
            return Ok(render());
        }

        let mut helper = self.helper().map_err(|error| {
            TemplateError::for_template(
                name,
                format!("the process that renders templates did not start: {error}"),
                "see docs/templates.md",
            )
        })?;
        let (name_sent, source) = (name.to_owned(), source.to_owned());
        let request = RenderRequest { name: name_sent, source, facts: facts.cloned() };
        let asked = Instant::now();
        // After an error the helper is dropped and so killed: half an answer may still be on the
        // wire.
        let answer = send_message(&mut helper.wire, &request)
            .and_then(|()| receive_message(&mut helper.wire));
        let text: RenderResult = answer.map_err(|error| helper.broke_off(name, &error))?;
        let made = text.as_ref().map_or(0, String::len);
        if asked.elapsed() <= KEPT_AFTER.0 && made <= KEPT_AFTER.1 {
            self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(helper);
        }
        text
    }

    fn helper(&self) -> io::Result<RenderHelper> {
        loop {
            let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
            let Some(mut helper) = idle else { return RenderHelper::start() };
            // The helper may have ended while it waited.
            if matches!(helper.child.try_wait(), Ok(None)) {
                return Ok(helper);
            }
        }
    }
}

struct RenderHelper {
    child: Child,
    wire: UnixStream,
}

impl fmt::Debug for RenderHelper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RenderHelper").field("pid", &self.child.id()).finish()
    }
}

impl RenderHelper {
    /// Starts this program as a helper. The link in /proc leads to the running program, even if an
    /// upgrade has replaced the file.
    fn start() -> io::Result<Self> {
        let (wire, theirs) = UnixStream::pair()?;
        wire.set_read_timeout(Some(TIME_MAX))?;
        wire.set_write_timeout(Some(TIME_MAX))?;
        let child = Command::new("/proc/self/exe")
            .arg(COMMAND)
            .env(ALLOCATOR.0, ALLOCATOR.1)
            .stdin(Stdio::from(OwnedFd::from(theirs.try_clone()?)))
            .stdout(Stdio::from(OwnedFd::from(theirs)))
            .stderr(Stdio::null())
            .process_group(0) // Ctrl-C is the server's
            .spawn()?;
        Ok(Self { child, wire })
    }

    /// The error for a helper that gave no answer.
    fn broke_off(&mut self, name: &str, error: &io::Error) -> TemplateError {
        if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) {
            let what = format!("rendering it was stopped after {} seconds", TIME_MAX.as_secs());
            return TemplateError::for_template(name, what, "look for lists that grow in a loop");
        }
        let ended =
            self.child.wait().map_or_else(|error| error.to_string(), |status| status.to_string());
        let what = format!("it ended the process that renders templates ({ended})");
        TemplateError::for_template(
            name,
            what,
            "look for a namespace or list that contains itself, or for text that grows without end",
        )
    }
}

impl Drop for RenderHelper {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The helper's side: answers requests on standard input until it ends.
pub fn serve_templates() -> io::Result<()> {
    confine_process(MEMORY_MAX_BYTES)?;
    // If memory is still short, the kernel must kill this process and not the server.
    let _ = fs::write("/proc/self/oom_score_adj", "1000");
    std::thread::Builder::new()
        .stack_size(STACK_BYTES)
        .spawn(answer_render_requests)?
        .join()
        .unwrap_or(Ok(()))
}

fn answer_render_requests() -> io::Result<()> {
    let (mut input, mut output) = (io::stdin().lock(), io::stdout().lock());
    while let Ok(request) = receive_message(&mut input) {
        let RenderRequest { name, source, facts } = request;
        let answer: RenderResult = match facts {
            Some(facts) => template::render_template_source(&name, &source, &facts),
            None => template::compile_template(&name, &source).map(|()| String::new()),
        };
        send_message(&mut output, &answer)?;
    }
    Ok(())
}

/// A message: its length in four bytes, then its JSON.
fn send_message(to: &mut impl Write, message: &impl Serialize) -> io::Result<()> {
    let text = serde_json::to_string(message)?;
    let length = u32::try_from(text.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
    to.write_all(&length.to_le_bytes())?;
    to.write_all(text.as_bytes())?;
    to.flush()
}

fn receive_message<T: DeserializeOwned>(from: &mut impl Read) -> io::Result<T> {
    let mut length = [0; 4];
    from.read_exact(&mut length)?;
    let length = u32::from_le_bytes(length) as usize;
    if length > MESSAGE_MAX_BYTES {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut text = vec![0; length];
    from.read_exact(&mut text)?;
    Ok(serde_json::from_slice(&text)?)
}

const _: () = assert!(
    6 * OUTPUT_MAX_BYTES < MESSAGE_MAX_BYTES + (1 << 20)
        && 6 * SOURCE_MAX_BYTES < MESSAGE_MAX_BYTES
);

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_message_comes_as_it_was_sent_and_a_torn_one_is_an_error() {
        let mut wire = Vec::new();
        let text = "a\u{1}ü".to_owned();
        send_message(&mut wire, &text).unwrap();
        assert_eq!(receive_message::<String>(&mut wire.as_slice()).unwrap(), text);
        assert!(receive_message::<String>(&mut &wire[..wire.len() - 1]).is_err());
        assert!(
            receive_message::<String>(&mut [255, 255, 255, 255, 0].as_slice()).is_err(),
            "longer than any message"
        );
    }
}
