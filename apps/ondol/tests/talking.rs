//! The conversation: through a pipe, and on a pseudo-terminal as a person types.
//! What a line means is tested in `session`; here it is that the program does it.

mod support;

use support::Home;

fn talk(home: &Home, lines: &str) -> support::Ended {
    home.feeds(&["run", "tiny", "-i", "-n", "6", "--seed", "1"], lines)
}

#[test]
fn a_conversation_through_a_pipe() {
    let home = Home::with_model("tiny");
    let ended = talk(
        &home,
        "/set system Be brief.\nhello\n\"\"\"two\nlines\"\"\"\n/clear\n/show system\n/bye\nnever\n",
    );
    assert_eq!((ended.code, ended.err.as_str()), (Some(0), ""), "{}", ended.out);
    let prompts: Vec<&str> = ended.out.matches(">>> ").collect();
    assert_eq!(prompts.len(), 6, "{}", ended.out);
    assert_eq!(ended.out.matches("... ").count(), 1);
    assert!(ended.out.starts_with(">>> Set system message.\n>>> "), "{}", ended.out);
    assert!(ended.out.ends_with(">>> Cleared session context\n>>> Be brief.\n>>> "), "{}", ended.out);
}

#[test]
fn the_same_conversation_gives_the_same_answers() {
    let home = Home::with_model("tiny");
    let lines = "hello\nand again\n";
    let first = talk(&home, lines);
    assert!(first.out.len() > ">>> >>> >>> \n".len() + 4, "nothing was answered: {}", first.out);
    assert_eq!(talk(&home, lines).out, first.out);
}

#[test]
fn what_is_known_of_the_model() {
    let home = Home::with_model("tiny");
    let out =
        talk(&home, "/show info\n/show template\n/show system\n/set parameter top_k 3\n/show parameters\n")
            .out;
    for part in [
        "architecture",
        "messages",
        "No system message was specified",
        "Set parameter 'top_k' to '3'",
        "  num_predict",
    ] {
        assert!(out.contains(part), "{part} is missing in:\n{out}");
    }
    let korean = home.feeds(&["run", "tiny", "-i", "--lang", "ko"], "/show system\n/dance\n");
    assert!(korean.out.contains("시스템 메시지가 없습니다"), "{}", korean.out);
    assert!(korean.out.contains("'/dance'는 없는 명령입니다"), "{}", korean.out);
}

#[test]
fn another_model_and_one_that_is_not_there() {
    let home = Home::with_model("tiny");
    home.succeeds(&["cp", "tiny", "second"]);
    let ended =
        home.feeds(&["--offline", "run", "tiny", "-i", "-n", "4"], "/load second\nhi\n/load nobody\nhi\n");
    assert_eq!(ended.code, Some(0), "{}", ended.err);
    assert!(ended.out.contains("Loading model 'second'"), "{}", ended.out);
    assert!(ended.err.contains("nobody"), "{}", ended.err);
    assert!(!ended.out.contains("error"), "{}", ended.out);
}

#[test]
fn a_model_that_cannot_load_ends_before_the_first_prompt() {
    let home = Home::new();
    std::fs::write(home.path().join("text.gguf"), "not a model").expect("a file");
    let ended = home.feeds(&["run", "./text.gguf", "-i"], "hello\n");
    assert_eq!((ended.code, ended.out.as_str()), (Some(1), ""));
    assert!(ended.err.starts_with("error: cannot load model"), "{}", ended.err);
}

#[cfg(unix)]
mod keyboard {
    //! A person at a terminal.

    use std::fs::File;
    use std::io::{Read, Write};
    use std::os::fd::AsFd;
    use std::process::{Child, Stdio};
    use std::sync::mpsc::{Receiver, channel};
    use std::time::Instant;

    use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};

    use crate::support::{Home, PATIENCE, until};

    struct Terminal {
        child: Child,
        keys: File,
        pieces: Receiver<Vec<u8>>,
        seen: String,
    }

    impl Terminal {
        fn open(home: &Home, arguments: &[&str]) -> Self {
            let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).expect("a pseudo-terminal");
            grantpt(&master).expect("granted");
            unlockpt(&master).expect("unlocked");
            let path = ptsname(&master, Vec::new()).expect("a name").into_string().expect("UTF-8");
            let slave = File::options().read(true).write(true).open(path).expect("its other end");
            let size = rustix::termios::Winsize { ws_row: 24, ws_col: 60, ws_xpixel: 0, ws_ypixel: 0 };
            rustix::termios::tcsetwinsize(slave.as_fd(), size).expect("a size");
            let stdio = || Stdio::from(slave.try_clone().expect("a copy"));
            let mut command = home.ondol(arguments);
            command.env("TERM", "xterm").stdin(stdio()).stdout(stdio()).stderr(stdio());
            let child = command.spawn().expect("the program starts");
            let keys = File::from(master);
            let mut screen = keys.try_clone().expect("a copy");
            let (sender, pieces) = channel();
            std::thread::spawn(move || {
                let mut buffer = [0; 4096];
                // Reading fails when the last program leaves the terminal.
                while let Ok(count @ 1..) = screen.read(&mut buffer) {
                    if sender.send(buffer[..count].to_vec()).is_err() {
                        return;
                    }
                }
            });
            Self { child, keys, pieces, seen: String::new() }
        }

        fn press(&mut self, keys: &str) {
            self.keys.write_all(keys.as_bytes()).expect("keys are taken");
        }

        /// Waits for this text, and forgets everything up to its end.
        fn sees(&mut self, text: &str) -> String {
            let start = Instant::now();
            loop {
                if let Some(at) = self.seen.find(text) {
                    let rest = self.seen.split_off(at + text.len());
                    return std::mem::replace(&mut self.seen, rest);
                }
                let left = PATIENCE.saturating_sub(start.elapsed());
                match self.pieces.recv_timeout(left) {
                    Ok(piece) => self.seen.push_str(&String::from_utf8_lossy(&piece)),
                    Err(_) => panic!("{text:?} never came; on the screen: {:?}", self.seen),
                }
            }
        }
    }

    impl Drop for Terminal {
        fn drop(&mut self) {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }

    #[test]
    fn placeholder_prompt_and_leaving() {
        let home = Home::with_model("tiny");
        let mut terminal = Terminal::open(&home, &["run", "tiny", "-n", "4", "--seed", "1"]);
        terminal.sees("Send a message (/? for help)");
        terminal.press("\x03");
        terminal.sees("Use Ctrl + d or /bye to exit.");
        terminal.sees(">>> ");
        terminal.press("\"\"\"one\r");
        terminal.sees("... ");
        terminal.press("\x03");
        terminal.sees(">>> ");
        terminal.press("/bye\r");
        until("the program ends", || terminal.child.try_wait().expect("a child").is_some());
        assert_eq!(terminal.child.wait().expect("ended").code(), Some(0));
    }

    #[test]
    fn ctrl_d_leaves_and_history_stays() {
        let home = Home::with_model("tiny");
        let history = home.path().join(".ondol/history");
        let mut terminal = Terminal::open(&home, &["run", "tiny", "-n", "4"]);
        terminal.sees(">>> ");
        terminal.press("안녕하세요\r");
        terminal.sees("\n");
        terminal.sees(">>> ");
        terminal.press("/set nohistory\r");
        terminal.sees("Set 'nohistory' mode.");
        terminal.sees(">>> ");
        terminal.press("a secret\r");
        terminal.sees(">>> ");
        terminal.sees("Send a message");
        terminal.press("\x04");
        until("the program ends", || terminal.child.try_wait().expect("a child").is_some());
        assert_eq!(terminal.child.wait().expect("ended").code(), Some(0));
        let kept = std::fs::read_to_string(history).expect("a history");
        assert!(kept.contains("안녕하세요"), "{kept}");
        assert!(!kept.contains("secret"), "{kept}");
    }

    #[test]
    fn an_interrupt_stops_the_answer_and_not_the_program() {
        let home = Home::new();
        home.endless();
        let mut terminal =
            Terminal::open(&home, &["run", "./endless.gguf", "--ctx", "1000000", "--verbose", "--greedy"]);
        terminal.sees(">>> ");
        terminal.press("hello\r");
        // The line editor has let go of the terminal: the answer is under way.
        terminal.sees("\x1b[?2004l");
        let id = terminal.child.id().to_string();
        let sent = std::process::Command::new("/bin/kill").args(["-INT", &id]).status().expect("kill runs");
        assert!(sent.success());
        let answer = terminal.sees(">>> ");
        assert!(!answer.contains("eval rate"), "the answer ended by itself: {answer}");
        terminal.press("/bye\r");
        until("the program ends", || terminal.child.try_wait().expect("a child").is_some());
        assert_eq!(terminal.child.wait().expect("ended").code(), Some(0));
    }
}
