/* SPDX-License-Identifier: Apache-2.0 */
/* What `berth package` and `docker model package` have in common.  Main thread. */
#ifndef CLI_ARTIFACT_PACKAGE_H
#define CLI_ARTIFACT_PACKAGE_H

#include "cli/artifact/artifact.h"
#include "cli/artifact/pack.h"

/* Builds the package that the flags describe: --gguf, --safetensors-dir, --dduf or --from, with
 * --chat-template, --license, --mmproj, --lora, --context-size, --format.  c is asked for --from
 * alone. */
int package_make(struct pack *p, const struct client *c, const struct cli_args *a,
                 struct err *err) MUST_USE;
/* Sends it into the daemon's store, where it has no name yet. */
int package_load(struct pack *p, struct client *c, enum transfer_style style,
                 struct err *err) MUST_USE;

#endif
