/* SPDX-License-Identifier: Apache-2.0 */
/* What a model's config says, whichever of the two kinds it is: Docker's, or a CNCF ModelPack. Main
 * thread. */
#ifndef CLI_ARTIFACT_FACTS_H
#define CLI_ARTIFACT_FACTS_H

#include <jansson.h>

#include "lib/base/compiler.h"

struct model_facts { /* borrows from the model's JSON; "" and 0 where nothing is said */
    const char *format, *architecture, *parameters, *quantization, *size;
    int64_t context_size, created_unix;
    const json_t *config; /* the inner one */
    bool is_modelpack;
};

/* m: as GET /models has it. */
void facts_of(const json_t *m, struct model_facts *ret);

/* Both as `berth show` prints them: names, digest, format and so on; the weights' metadata. */
void show_facts(const json_t *m);
void show_metadata(const json_t *m);

/* A name as people write it: "smollm2" of "docker.io/ai/smollm2:latest". */
const char *facts_short_name(const char *tag, char *ret, unsigned size);

/* The same with the namespace, which no file's name can be taken for: "ai/smollm2". */
const char *facts_clear_name(const char *tag, char *ret, unsigned size);

#endif
