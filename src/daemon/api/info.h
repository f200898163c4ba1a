/* SPDX-License-Identifier: Apache-2.0 */
/* What is known of models, as JSON for clients.  Asks the runner, so not on its loop thread. */
#ifndef DAEMON_API_INFO_H
#define DAEMON_API_INFO_H

#include "daemon/api/api_impl.h"

#define INFO_LIST_MAX_BYTES (64u << 20)

const char *info_state_name(enum model_state state);
/* The model that name means; NULL: there is none. */
const struct model_info *info_find(struct api *a, const struct model_list *l, const char *name);
/* As info_find, and failing that the one whose name ends so. */
const struct model_info *info_find_part(struct api *a, const struct model_list *l,
                                        const char *name);
/* E_NOTFOUND with the names that are near. */
int info_not_found(struct api *a, const char *name, struct err *err);
/* Seconds until a broken model is tried again; 0: it is not broken. */
uint32_t info_retry_in(struct api *a, const char *name);
/* OpenAI's model object, with more. */
void info_put_openai(const struct model_info *m, struct buf *out);
/* Everything: what was declared, what counts, what runs. */
void info_put(const struct model_info *m, struct buf *out);
/* Answers r with what put writes of the model called name, or that there is none. */
void info_answer(struct api *a, struct httpd_request *r, const char *name,
                 void (*put)(const struct model_info *m, struct buf *out));
/* A list, or false and the request is answered. */
bool info_list(struct api *a, struct httpd_request *r, struct model_list *ret);
/* The name of the one model that can be meant when none is named: the one that is loaded, or known.
 * NULL and err, or the caller's (mem_free). */
char *info_only_model(struct api *a, struct err *err) MUST_USE;

#endif
