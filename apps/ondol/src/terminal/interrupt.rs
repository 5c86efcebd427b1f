//! Ctrl-C while an answer is under way stops the answer, not the program. Only the interactive session listens: a
//! one-shot command is simply ended by the signal.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Whether Ctrl-C was pressed since it was last asked.
#[derive(Debug, Clone, Default)]
pub(crate) struct Interrupt(Arc<AtomicBool>);

impl Interrupt {
    /// Takes over the signal, for the rest of the program's life.
    pub(crate) fn listen() -> std::io::Result<Self> {
        let pressed = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&pressed);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
        std::thread::Builder::new().name("interrupt".to_owned()).spawn(move || {
            runtime.block_on(presses(&seen));
        })?;
        Ok(Self(pressed))
    }

    /// As if Ctrl-C had been pressed.
    #[cfg(test)]
    pub(crate) fn press(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Whether there was a press that nobody took.
    pub(crate) fn is_pressed(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// Takes a press, if there was one.
    pub(crate) fn take(&self) -> bool {
        self.0.swap(false, Ordering::Relaxed)
    }
}

/// Notes every press. One listener for all of them: with a new one for each, presses between two would be lost.
#[cfg(unix)]
async fn presses(seen: &AtomicBool) {
    use tokio::signal::unix::{SignalKind, signal};
    let Ok(mut presses) = signal(SignalKind::interrupt()) else { return };
    while presses.recv().await.is_some() {
        seen.store(true, Ordering::Relaxed);
    }
}

#[cfg(not(unix))]
async fn presses(seen: &AtomicBool) {
    while tokio::signal::ctrl_c().await.is_ok() {
        seen.store(true, Ordering::Relaxed);
    }
}
