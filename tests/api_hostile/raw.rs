//! A client that is not bound to behave: bytes on the socket, and RPC messages made by hand.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use capnp::message::{Builder, HeapAllocator};
use capnp_rpc::rpc_capnp::message;

/// The id of the interface `BlockSync`, whose first method is `info`.
const BLOCK_SYNC: u64 = 0xa014_b6fe_bec6_5d9a;
/// How long a peer may take before we believe that it will not.
const PATIENCE: Duration = Duration::from_secs(2);
/// Longer than anything takes.
const DEADLINE: Duration = Duration::from_mins(1);

pub struct Raw(UnixStream);

impl Raw {
    pub fn connect(socket: &Path) -> Self {
        let stream = UnixStream::connect(socket).expect("the socket takes connections");
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        Self(stream)
    }

    /// `false`: the other side did not take it, now or for good.
    pub fn say(&mut self, bytes: &[u8]) -> bool {
        self.0.write_all(bytes).is_ok()
    }

    /// The same connection once more, to be read beside it.
    pub fn reader(&self) -> Self {
        Self(self.0.try_clone().unwrap())
    }

    /// Says that nothing more will come.
    pub fn done_talking(&mut self) {
        // It may have hung up already.
        let _ = self.0.shutdown(std::net::Shutdown::Write);
    }

    /// Waits until the other side has hung up; what it said before that.
    pub fn hung_up_on(mut self) -> Vec<u8> {
        let mut said = Vec::new();
        match self.0.read_to_end(&mut said) {
            Ok(_) => said,
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => said,
            Err(error) => panic!("it should have hung up: {error}"),
        }
    }

    /// Reads until `enough` of what was said so far.
    pub fn read_until(&mut self, mut enough: impl FnMut(&[u8]) -> bool) {
        let mut said = Vec::new();
        let mut buffer = vec![0; 1 << 16];
        while !enough(&said) {
            let read = self.0.read(&mut buffer).expect("it goes on talking");
            assert!(read > 0, "it hung up after {} bytes", said.len());
            said.extend_from_slice(&buffer[..read]);
        }
    }
}

/// The header of a message with one segment of so many bytes.
pub fn header(bytes: u32) -> [u8; 8] {
    let mut header = [0; 8];
    header[4..].copy_from_slice(&(bytes / 8).to_le_bytes());
    header
}

fn encode(fill: impl FnOnce(message::Builder<'_>)) -> Vec<u8> {
    let mut builder = Builder::new(HeapAllocator::new());
    fill(builder.init_root());
    capnp::serialize::write_message_to_words(&builder)
}

/// Asks for the bootstrap capability.
pub fn bootstrap(question: u32) -> Vec<u8> {
    encode(|message| message.init_bootstrap().set_question_id(question))
}

/// Calls `info` on what question `root` asked for.
pub fn info(question: u32, root: u32) -> Vec<u8> {
    call(question, root, false)
}

/// The same, with an answer that is to be kept by the server.
pub fn info_to_yourself(question: u32, root: u32) -> Vec<u8> {
    call(question, root, true)
}

fn call(question: u32, root: u32, yourself: bool) -> Vec<u8> {
    encode(|message| {
        let mut call = message.init_call();
        call.set_question_id(question);
        call.set_interface_id(BLOCK_SYNC);
        call.set_method_id(0);
        call.reborrow().init_target().init_promised_answer().set_question_id(root);
        if yourself {
            call.reborrow().init_send_results_to().set_yourself(());
        }
        call.init_params();
    })
}

/// How many whole messages `bytes` begin with.
pub fn count_messages(mut bytes: &[u8]) -> usize {
    let options = capnp::message::ReaderOptions::new();
    let mut count = 0;
    while capnp::serialize::read_message_from_flat_slice(&mut bytes, options).is_ok() {
        count += 1;
    }
    count
}
