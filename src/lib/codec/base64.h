/* SPDX-License-Identifier: Apache-2.0 */
/* Base64 (RFC 4648, 4), with padding.  Appends to a buf; any thread. */
#ifndef LIB_CODEC_BASE64_H
#define LIB_CODEC_BASE64_H

#include "lib/base/buf.h"
#include "lib/base/str.h"

void base64_encode(struct str bytes, struct buf *out); /* buf_status tells of failure */
/* E_FORMAT for anything but the alphabet and its padding at the end. */
int base64_decode(struct str text, struct buf *out, struct err *err) MUST_USE;

#endif
