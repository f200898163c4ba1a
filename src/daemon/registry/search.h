/* SPDX-License-Identifier: Apache-2.0 */
/* Looking for models where others have them: Docker Hub's `ai` namespace and Hugging Face's hub.
 *
 * Calls block, for at most SEARCH_MS a source, and are for the threads of a pool.  What the hubs
 * say is bounded and cleaned: names that cannot be pulled are passed over, control characters and
 * those that turn the direction of writing become spaces.
 *
 * Sources: Docker Hub's API (GET /v2/repositories/NAMESPACE/), huggingface.co/docs/hub/api. */
#ifndef DAEMON_REGISTRY_SEARCH_H
#define DAEMON_REGISTRY_SEARCH_H

#include "daemon/registry/registry.h"

#define SEARCH_MS         20000u
#define SEARCH_TERM_BYTES 200u
#define SEARCH_LIMIT_MAX  100u

enum { SEARCH_DOCKER = 1, SEARCH_HUGGING_FACE = 2 };

/* "all" (or ""), "dockerhub", "docker", "hub", "huggingface", "hf": the sources it means; 0: none.
 */
unsigned search_sources(const char *name);

/* Appends {"results": [{name, description, backend, downloads, stars, source, official,
 * updated_at}], "warnings": [...]}: at most limit of each source, Docker Hub's first, the most
 * often downloaded of each first.  A source that fails is a warning as long as another one
 * answers; else err is the first one's: E_NET, E_TIMEOUT, E_FORMAT, E_LIMIT, E_BUSY, E_DENIED. */
int registry_search(struct registry *r, const char *term, unsigned sources, uint32_t limit,
                    struct buf *out, struct err *err) MUST_USE;

#endif
