//! zlib's functions as libgit2 calls them, in place of the C code, which is half as slow again.
//!
//! An object of a pack is inflated at once, into memory of its size: that is done by libdeflate, which takes two
//! thirds of the time. Anything else is done by zlib-rs: streams in pieces, headers, whatever libdeflate refuses,
//! and what is compressed. (libdeflate takes some streams that zlib refuses, such as one with a code that no
//! compressor needs; the checksum has to fit in either.)
//!
//! A stream's `state` says where it is: null before anything was asked of it, [`done`] after libdeflate was
//! through, else zlib-rs's own.
#![expect(unsafe_code, reason = "functions of the C language, to which their callers promise valid pointers")]
#![allow(non_snake_case, reason = "the names of zlib")]

use std::ffi::{c_char, c_int, c_uint, c_ulong};
use std::ptr;

use libz_rs_sys::{Z_FINISH, Z_OK, Z_STREAM_END, Z_STREAM_ERROR, Z_VERSION_ERROR, z_stream};

/// What libgit2 asks for where it wants the header of a loose object, or that of a delta: the stream goes on behind it.
const HEADERS: [c_uint; 2] = [64, 16];

/// Keeps the linker from leaving these functions out, before it sees that libgit2 asks for them.
pub(super) fn linked() {
    std::hint::black_box::<unsafe extern "C" fn(*mut z_stream, c_int) -> c_int>(inflate);
}

/// libdeflate's memory, kept from one object to the next.
struct Decompressor(*mut libdeflate_sys::libdeflate_decompressor);

impl Drop for Decompressor {
    fn drop(&mut self) {
        // SAFETY: made by its counterpart, or null, which is ignored.
        unsafe { libdeflate_sys::libdeflate_free_decompressor(self.0) }
    }
}

thread_local! {
    // SAFETY: asks for nothing.
    static DECOMPRESSOR: Decompressor = Decompressor(unsafe { libdeflate_sys::libdeflate_alloc_decompressor() });
}

fn done<T>() -> *mut T {
    static DONE: u64 = 0;
    ptr::from_ref(&DONE).cast_mut().cast()
}

/// Inflates a whole stream; `false` where that is not what is wanted, and nothing happened.
fn whole(stream: &mut z_stream) -> bool {
    let (mut read, mut written) = (0, 0);
    let result = DECOMPRESSOR.try_with(|decompressor| {
        if decompressor.0.is_null() {
            return libdeflate_sys::libdeflate_result_LIBDEFLATE_BAD_DATA;
        }
        // SAFETY: the caller of `inflate` promises so many bytes at these places.
        unsafe {
            libdeflate_sys::libdeflate_zlib_decompress_ex(
                decompressor.0,
                stream.next_in.cast(),
                stream.avail_in as usize,
                stream.next_out.cast(),
                stream.avail_out as usize,
                &mut read,
                &mut written,
            )
        }
    });
    if result != Ok(libdeflate_sys::libdeflate_result_LIBDEFLATE_SUCCESS) {
        return false;
    }
    // Neither is more than the number of bytes that were there.
    #[expect(clippy::cast_possible_truncation, reason = "counted in an u32")]
    let (read_now, written_now) = (read as c_uint, written as c_uint);
    // SAFETY: inside the same bytes.
    unsafe {
        stream.next_in = stream.next_in.add(read);
        stream.next_out = stream.next_out.add(written);
    }
    stream.avail_in -= read_now;
    stream.avail_out -= written_now;
    stream.total_in += c_ulong::from(read_now);
    stream.total_out += c_ulong::from(written_now);
    stream.state = done();
    true
}

#[unsafe(no_mangle)]
unsafe extern "C" fn inflateInit_(stream: *mut z_stream, version: *const c_char, size: c_int) -> c_int {
    // SAFETY: as zlib's, of which these are the first lines.
    let Some(stream) = (unsafe { stream.as_mut() }) else { return Z_STREAM_ERROR };
    // SAFETY: null, or a string.
    let version = unsafe { version.as_ref() };
    if version != Some(&b'1'.cast_signed()) || size as usize != size_of::<z_stream>() {
        return Z_VERSION_ERROR;
    }
    stream.state = ptr::null_mut();
    stream.msg = ptr::null_mut();
    (stream.total_in, stream.total_out) = (0, 0);
    Z_OK
}

#[unsafe(no_mangle)]
unsafe extern "C" fn inflate(stream: *mut z_stream, flush: c_int) -> c_int {
    // SAFETY: one that `inflateInit_` made.
    let Some(begun) = (unsafe { stream.as_mut() }) else { return Z_STREAM_ERROR };
    if begun.state == done() {
        return Z_STREAM_END;
    }
    if begun.state.is_null() {
        if flush == Z_FINISH && !HEADERS.contains(&begun.avail_out) && whole(begun) {
            return Z_STREAM_END;
        }
        let size = c_int::try_from(size_of::<z_stream>()).unwrap_or_default();
        // SAFETY: a valid stream, of this size.
        let code = unsafe { libz_rs_sys::inflateInit_(stream, libz_rs_sys::zlibVersion(), size) };
        if code != Z_OK {
            return code;
        }
    }
    // SAFETY: zlib-rs's own stream.
    unsafe { libz_rs_sys::inflate(stream, flush) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn inflateReset(stream: *mut z_stream) -> c_int {
    // SAFETY: one that `inflateInit_` made.
    let Some(begun) = (unsafe { stream.as_mut() }) else { return Z_STREAM_ERROR };
    if begun.state == done() || begun.state.is_null() {
        begun.state = ptr::null_mut();
        (begun.total_in, begun.total_out) = (0, 0);
        return Z_OK;
    }
    // SAFETY: zlib-rs's own stream.
    unsafe { libz_rs_sys::inflateReset(stream) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn inflateEnd(stream: *mut z_stream) -> c_int {
    // SAFETY: one that `inflateInit_` made.
    let Some(begun) = (unsafe { stream.as_mut() }) else { return Z_STREAM_ERROR };
    if begun.state == done() || begun.state.is_null() {
        begun.state = ptr::null_mut();
        return Z_OK;
    }
    // SAFETY: zlib-rs's own stream.
    unsafe { libz_rs_sys::inflateEnd(stream) }
}

/// Functions that zlib-rs has to itself.
macro_rules! of_zlib_rs {
    ($($name:ident($($argument:ident: $type:ty),*) -> $result:ty;)+) => {$(
        #[unsafe(no_mangle)]
        unsafe extern "C" fn $name($($argument: $type),*) -> $result {
            // SAFETY: what the caller promises is passed on.
            unsafe { libz_rs_sys::$name($($argument),*) }
        }
    )+};
}

of_zlib_rs! {
    deflateInit_(stream: *mut z_stream, level: c_int, version: *const c_char, size: c_int) -> c_int;
    deflate(stream: *mut z_stream, flush: c_int) -> c_int;
    deflateReset(stream: *mut z_stream) -> c_int;
    deflateEnd(stream: *mut z_stream) -> c_int;
    crc32(crc: c_ulong, bytes: *const u8, length: c_uint) -> c_ulong;
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a panic is how a test fails")]

    use proptest::prelude::*;

    use super::*;

    /// What a stream ends with, and what came out of it.
    type Outcome = (c_int, Vec<u8>, usize);

    type Inflate = unsafe extern "C" fn(*mut z_stream, c_int) -> c_int;

    /// Inflates as libgit2 does: all input at once, the output in pieces of `piece` bytes.
    fn inflated(
        init: unsafe extern "C" fn(*mut z_stream, *const c_char, c_int) -> c_int,
        next: Inflate,
        end: unsafe extern "C" fn(*mut z_stream) -> c_int,
        input: &[u8],
        (piece, most): (usize, usize),
        flush: c_int,
    ) -> Outcome {
        let mut stream = z_stream::default();
        let mut output = Vec::new();
        let size = c_int::try_from(size_of::<z_stream>()).unwrap();
        // SAFETY: the pointers are of `input` and `room`, with their lengths.
        unsafe {
            assert_eq!(init(&mut stream, libz_rs_sys::zlibVersion(), size), Z_OK);
            stream.next_in = input.as_ptr().cast_mut();
            stream.avail_in = c_uint::try_from(input.len()).unwrap();
            let mut code = Z_OK;
            while output.len() < most && code == Z_OK
                || code == libz_rs_sys::Z_BUF_ERROR && stream.avail_out == 0
            {
                let mut room = vec![0; piece];
                stream.next_out = room.as_mut_ptr();
                stream.avail_out = c_uint::try_from(piece).unwrap();
                code = next(&mut stream, flush);
                room.truncate(piece - stream.avail_out as usize);
                output.extend(room);
            }
            let read = input.len() - stream.avail_in as usize;
            assert_eq!(stream.total_in, c_ulong::try_from(read).unwrap());
            assert_eq!(stream.total_out, c_ulong::try_from(output.len()).unwrap());
            end(&mut stream);
            (code, output, read)
        }
    }

    fn deflated(content: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0; content.len() + content.len() / 100 + 64];
        let mut length = c_ulong::try_from(bytes.len()).unwrap();
        // SAFETY: both with their lengths.
        let code = unsafe {
            libz_rs_sys::compress(
                bytes.as_mut_ptr(),
                &mut length,
                content.as_ptr(),
                c_ulong::try_from(content.len()).unwrap(),
            )
        };
        assert_eq!(code, Z_OK);
        bytes.truncate(usize::try_from(length).unwrap());
        bytes
    }

    #[test]
    fn libgit2_is_linked_with_these_functions() {
        // What the bindings name is what C code calls: one definition of each name is in the program.
        assert_eq!(libz_sys::inflate as *const (), inflate as *const ());
        assert_eq!(libz_sys::inflateInit_ as *const (), inflateInit_ as *const ());
        assert_eq!(libz_sys::inflateEnd as *const (), inflateEnd as *const ());
        assert_eq!(libz_sys::inflateReset as *const (), inflateReset as *const ());
        assert_eq!(libz_sys::deflateInit_ as *const (), deflateInit_ as *const ());
        assert_eq!(libz_sys::deflate as *const (), deflate as *const ());
        assert_eq!(libz_sys::deflateReset as *const (), deflateReset as *const ());
        assert_eq!(libz_sys::deflateEnd as *const (), deflateEnd as *const ());
        assert_eq!(libz_sys::crc32 as *const (), crc32 as *const ());
    }

    #[test]
    fn a_stream_can_be_used_again() {
        let input = deflated(b"one and one and one");
        let mut room = [0; 20];
        let mut stream = z_stream::default();
        let size = c_int::try_from(size_of::<z_stream>()).unwrap();
        // SAFETY: the pointers are of `input` and `room`, with their lengths.
        unsafe {
            assert_eq!(inflateInit_(&mut stream, c"1".as_ptr(), size), Z_OK);
            for _ in 0..2 {
                stream.next_in = input.as_ptr().cast_mut();
                stream.avail_in = c_uint::try_from(input.len()).unwrap();
                stream.next_out = room.as_mut_ptr();
                stream.avail_out = 20;
                assert_eq!(inflate(&mut stream, Z_FINISH), Z_STREAM_END);
                assert_eq!((stream.avail_out, stream.total_out), (1, 19));
                assert_eq!(stream.state, done(), "it was not libdeflate");
                assert_eq!(inflate(&mut stream, Z_FINISH), Z_STREAM_END);
                assert_eq!(inflateReset(&mut stream), Z_OK);
            }
            assert_eq!(inflateEnd(&mut stream), Z_OK);
            assert_eq!(inflateInit_(&mut stream, c"2".as_ptr(), size), Z_VERSION_ERROR);
            assert_eq!(inflateInit_(std::ptr::null_mut(), c"1".as_ptr(), size), Z_STREAM_ERROR);
        }
    }

    proptest! {
        /// Whole, in pieces, cut off, damaged, or longer than there is room for: as zlib-rs.
        #[test]
        fn agrees_with_zlib_rs(
            content in prop_oneof![prop::collection::vec(any::<u8>(), 0..400), "[ab\n]{0,3000}".prop_map(String::into_bytes)],
            room in prop_oneof![Just(None), (0_usize..400).prop_map(Some)],
            damage in prop_oneof![Just(None), any::<(prop::sample::Index, u8)>().prop_map(Some)],
            cut in prop_oneof![Just(None), any::<prop::sample::Index>().prop_map(Some)],
            behind in prop::collection::vec(any::<u8>(), 0..20),
            finish in any::<bool>(),
        ) {
            let mut input = deflated(&content);
            input.extend(behind);
            if let Some((at, byte)) = damage {
                let at = at.index(input.len());
                input[at] = byte;
            }
            if let Some(at) = cut {
                input.truncate(at.index(input.len()));
            }
            let room = (room.unwrap_or(content.len()) + 1, content.len() + 1);
            let flush = if finish { Z_FINISH } else { 0 };
            let own = inflated(inflateInit_, inflate, inflateEnd, &input, room, flush);
            let expected = inflated(
                libz_rs_sys::inflateInit_,
                libz_rs_sys::inflate,
                libz_rs_sys::inflateEnd,
                &input,
                room,
                flush,
            );
            prop_assert_eq!(own, expected);
        }
    }
}
