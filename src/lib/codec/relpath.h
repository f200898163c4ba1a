/* SPDX-License-Identifier: Apache-2.0 */
/* Paths that come from outside and must stay inside a folder.  Pure; any thread. */
#ifndef LIB_CODEC_RELPATH_H
#define LIB_CODEC_RELPATH_H

#include "lib/base/str.h"

/* Whether path can only name something below the folder it is used in: 1 to max_bytes of valid
 * UTF-8, parts separated by single slashes, none of them empty or made of dots alone (nor of the
 * characters that look like dots), no control character, no backslash, no colon in the first part
 * (drive letters).  Symbolic links are the opener's business. */
bool relpath_is_inside(struct str path, size_t max_bytes);

#endif
