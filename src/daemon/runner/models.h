/* SPDX-License-Identifier: Apache-2.0 */
/* The models that are known: found in folders or in the store, or made known by path.  Names, files
 * and near names; knows nothing of processes.  models_scan may run on any thread; the registry
 * itself belongs to the runner's loop thread. */
#ifndef DAEMON_RUNNER_MODELS_H
#define DAEMON_RUNNER_MODELS_H

#include "daemon/runner/runner.h"
#include "daemon/runner/settings.h"
#include "lib/base/limits.h"
#include "lib/base/str.h"
#include "lib/oci/reference.h"
#include "lib/sys/loop.h"

#define CRASHES_TO_BREAK 3u

/* A model's file as the disk has it, or a model of the store. */
struct model_file {
    char *name, *path; /* owned; path is "" of the store's */
    uint64_t bytes;    /* all shards */
    int64_t modified_unix;
    /* Of the store's alone: */
    char digest[OCI_DIGEST_CHARS + 1]; /* of the manifest; "": a file */
    struct model_facts facts;
};
struct model_files_found {
    struct model_file *items; /* owned */
    size_t n, cap;
    bool keeps_stored; /* the store was not looked at: its models are there as before */
};
bool models_found_push(struct model_files_found *f, struct model_file *file); /* takes *file */
/* Clean text of a length that may be a model's name. */
bool model_name_is_fit(struct str name);

/* Every *.gguf of the colon-separated folders, in the folders' order; of a split model the first
 * shard stands for all. A folder that is not there is none; a name that cannot be one is logged and
 * left out. */
void models_scan(const char *dirs, struct model_files_found *ret);
void models_found_release(struct model_files_found *f);

/* One file: E_INVALID for what is not a regular file ending in .gguf or has no fitting name.  name
 * NULL: from path. The caller frees with model_file_release. */
int model_file_look(const char *path, const char *name, struct model_file *ret,
                    struct err *err) MUST_USE;
void model_file_release(struct model_file *f);

struct worker;
struct run_request;
struct runner;

struct model {
    struct runner *runner;
    struct model *next;
    struct model_file file;
    bool is_registered; /* by path: stays though no folder holds it */
    bool is_moved; /* its name means other bytes now, or none: it is called by its digest, and goes
                      when it has nothing to do */
    struct model_settings settings;         /* as declared */
    struct worker *worker;                  /* NULL: not loaded */
    struct run_request *first, **last;      /* unfinished requests, oldest first */
    uint32_t n_requests, n_sent, n_started; /* of them, those the worker has, and runs */
    size_t queued_bytes;                    /* of their payloads that are not sent yet */
    struct err failure;                     /* why the last load failed; code 0: it did not */
    /* ever: */
    uint64_t n_taken, n_prompt_tokens, n_cached_tokens, n_generated_tokens, n_loads, n_crashes;
    int64_t last_used_unix; /* 0: never */
    /* idle.c */
    struct loop_timer idle;
    bool has_keep_alive, is_only_loaded;
    uint64_t keep_alive_s, idle_since_ms;
    /* supervise.c */
    struct loop_timer restart;
    bool is_broken;
    uint64_t faults_ms[CRASHES_TO_BREAK]; /* oldest first; 0: none */
    uint64_t restart_at_ms, broken_until_ms, trial_id;
    uint32_t n_faults_row, n_breaks;
    char digest[80]; /* of its file as it was last loaded; "" while unknown */
    /* unpack.c */
    char unpacking[OCI_DIGEST_CHARS + 1]; /* what is unpacked before it is started; "": nothing */
    uint32_t n_unpacked;
};

struct models {
    struct runner *runner;             /* whose they are */
    void (*on_new)(struct model *m);   /* a model has become known */
    void (*on_moved)(struct model *m); /* may be NULL; called before its old name is freed */
    struct model *first;
    size_t n;
};

void models_release(struct models *m);
/* Takes over what is new in found, updates what is known, forgets what is neither found, registered
 * nor in use. */
void models_merge(struct models *m, struct model_files_found *found);
struct model *models_find(const struct models *m, struct str name);
/* Takes *file.  E_EXISTS when the name means another file. */
int models_register(struct models *m, struct model_file *file, struct model **ret,
                    struct err *err) MUST_USE;
/* E_NOTFOUND for name, with the names that are near it. */
int models_not_found(const struct models *m, struct str name, const char *dirs, struct err *err);
/* How far two names are apart, 0: not at all; UINT32_MAX: not near. */
unsigned name_distance(struct str wanted, struct str known);

#endif
