/* SPDX-License-Identifier: Apache-2.0 */
/* What was declared of models, in state_dir/models.json: {"models": {NAME: settings}}.  Written
 * whole, by rename; read once, at start.  One thread at a time. */
#ifndef DAEMON_RUNNER_STATE_H
#define DAEMON_RUNNER_STATE_H

#include "daemon/runner/settings.h"
#include "lib/base/buf.h"

struct state {
    char *path;     /* owned; NULL: nothing is kept */
    json_t *models; /* owned: an object, name to settings */
};

/* dir NULL: kept in memory alone.  A file that is there and cannot be read as what it should be is
 * refused, and left as it is. */
int state_open(const char *dir, struct state *ret, struct err *err) MUST_USE;
void state_close(struct state *s);
/* What models (as state.models: not changed once it is there, so that any thread may read one that
 * it holds) has for name, *ret being initialised here. */
int state_get(const json_t *models, const char *name, struct model_settings *ret,
              struct err *err) MUST_USE;
/* Writes the file with name's settings in it; on failure everything is as before. */
int state_put(struct state *s, const char *name, const struct model_settings *settings,
              struct err *err) MUST_USE;

#endif
