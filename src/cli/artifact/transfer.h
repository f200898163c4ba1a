/* SPDX-License-Identifier: Apache-2.0 */
/* How a model's way to or from somewhere is shown: the lines of the daemon's model manager become
 * bars on a terminal (one for each layer, and the whole with its speed and the time left), plain
 * lines now and then elsewhere, or are printed as they are.  Main thread. */
#ifndef CLI_ARTIFACT_TRANSFER_H
#define CLI_ARTIFACT_TRANSFER_H

#include <jansson.h>
#include <stdio.h>

#include "lib/oci/reference.h"

enum transfer_style {
    TRANSFER_BERTH,  /* on standard error; bars go when it is over */
    TRANSFER_DOCKER, /* on standard output, as docker does it; bars stay */
    TRANSFER_JSON,   /* every line to standard output */
    TRANSFER_QUIET
};

struct transfer_layer {
    char id[OCI_DIGEST_CHARS + 1]; /* digest, or a hub's path, cut */
    uint64_t size, current;
    bool is_printed; /* docker, without a terminal: the line that it is whole */
};

#define TRANSFER_SAMPLES 64u /* of the speed: 5 seconds */

struct transfer {
    enum transfer_style style;
    char what[256]; /* "pulling ai/smollm2" */
    bool is_push, is_terminal, has_color;
    struct transfer_layer *layers; /* owned */
    unsigned n_layers, n_held;
    uint64_t total;  /* of the whole model; 0: unknown yet */
    char note[256];  /* what it says it does, until there are layers */
    unsigned n_rows; /* shown, to be drawn over */
    unsigned n_shown;
    int64_t began_ms, shown_ms;
    struct {
        int64_t at_ms;
        uint64_t done;
    } samples[TRANSFER_SAMPLES];
    unsigned n_samples;
    /* What the last line said. */
    char id[OCI_DIGEST_CHARS + 1]; /* of the model; "": none yet */
    char *name;                    /* owned; the stored name, NULL: none */
    char message[512];
    bool was_cached;
};

void transfer_begin(struct transfer *t, enum transfer_style style, const char *what);
/* For client_lines; t is the ctx. */
bool transfer_line(void *t, const json_t *line);
/* For the client's on_tick. */
void transfer_tick(void *t);
/* What this process itself sends: bytes so far, of total. */
void transfer_sent(struct transfer *t, const char *layer, uint64_t done, uint64_t size,
                   uint64_t total);
/* It is over: bars are as they are at the end, or gone.  ok: it all went well. */
void transfer_end(struct transfer *t, bool ok);
void transfer_release(struct transfer *t);

/* All bytes that have come or gone, and how many a second lately. */
uint64_t transfer_done(const struct transfer *t);
uint64_t transfer_speed(const struct transfer *t);
/* "52.1 MB in 3 seconds, 17.4 MB/s" of the whole, for the last word. */
const char *transfer_sum(const struct transfer *t, char ret[96]);

#endif
