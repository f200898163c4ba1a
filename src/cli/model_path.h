/* SPDX-License-Identifier: Apache-2.0 */
/* MODEL on a command line: a name, or a path to a file.  Reads no model.  Any thread. */
#ifndef CLI_MODEL_PATH_H
#define CLI_MODEL_PATH_H

#include "lib/base/buf.h"

/* Whether MODEL means a path: it begins with a slash, a dot or a tilde, ends in .gguf, or has a
 * slash and is there; "ai/smollm2" is a name else. */
bool model_is_path(const char *model);
/* The absolute path of a file; E_NOTFOUND or E_IO naming it. */
int model_real_path(const char *path, struct buf *out, struct err *err) MUST_USE;
/* For `berth debug`: a path's file, or a model's by its name in colon-separated folders, or the
 * file of that very name. E_NOTFOUND with the nearest name. */
int model_find(const char *model, const char *dirs, struct buf *out, struct err *err) MUST_USE;

#endif
