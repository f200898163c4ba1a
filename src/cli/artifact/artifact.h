/* SPDX-License-Identifier: Apache-2.0 */
/* The daemon's store of models as commands use it: what berth's commands and docker's plugin have
 * in common.  Main thread. */
#ifndef CLI_ARTIFACT_ARTIFACT_H
#define CLI_ARTIFACT_ARTIFACT_H

#include "cli/args.h"
#include "cli/client.h"
#include "cli/artifact/transfer.h"

/* The client of a command that needs a daemon, one started where none answers.  From here on Ctrl-C
 * ends requests with E_CANCELED. */
int artifact_client(const struct cli_args *a, struct client *ret, struct err *err) MUST_USE;

/* The latter alone. */
int artifact_heed_interrupts(struct client *c, struct err *err) MUST_USE;

/* "/models/NAME" and what follows, the name escaped. */
void artifact_path(struct buf *out, const char *name, const char *rest);

/* Fetches ref from its registry, or sends it there, showing how far it is; t says afterwards what
 * came of it and is the caller's to release in any case. */
int artifact_pull(struct client *c, const char *ref, enum transfer_style style, struct transfer *t,
                  struct err *err) MUST_USE;
int artifact_push(struct client *c, const char *ref, enum transfer_style style, struct transfer *t,
                  struct err *err) MUST_USE;

/* Gives the stored model src the further name dst. */
int artifact_tag(const struct client *c, const char *src, const char *dst,
                 struct err *err) MUST_USE;

/* Takes a name or an id away; what happened, an array of {"Untagged": NAME} and {"Deleted": ID}, is
 * added to done. */
int artifact_remove(const struct client *c, const char *name, bool force, json_t *done,
                    struct err *err) MUST_USE;

/* One stored model, or what a registry has under the name, as Docker Model Runner tells it (new
 * reference). */
int artifact_model(const struct client *c, const char *name, bool is_remote, json_t **ret,
                   struct err *err) MUST_USE;
/* All of them, an array (new reference). */
int artifact_models(const struct client *c, json_t **ret, struct err *err) MUST_USE;

/* Whether a registry could know MODEL by this name: no path, no id. */
bool artifact_may_pull(const char *model);

/* The last word about an interrupted transfer; the exit status. */
int artifact_interrupted(const char *program, const char *verb, const char *ref);

#endif
