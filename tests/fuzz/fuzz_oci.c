/* SPDX-License-Identifier: Apache-2.0 */
/* Names, manifests, indexes and configs of artifacts, from any bytes; what is taken must survive
 * being written and read again. */
#include <string.h>

#include "lib/base/mem.h"
#include "lib/oci/package.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void try_reference(struct str s)
{
    struct oci_reference r, again;
    struct err err = ERR_INIT;
    struct buf out;
    if (oci_reference_parse(s, NULL, &r, &err) < 0)
        return;
    buf_init(&out, 4096);
    oci_reference_put(&r, &out);
    BUG_ON(out.failed);
    BUG_ON(oci_reference_parse(str_from(buf_str(&out)), NULL, &again, &err) < 0);
    BUG_ON(strcmp(r.repository, again.repository) || strcmp(r.registry, again.registry) ||
           strcmp(r.tag, again.tag) || strcmp(r.digest, again.digest) ||
           strcmp(r.revision, again.revision));
    buf_release(&out);
}

static void try_manifest(struct str s)
{
    struct arena a;
    struct oci_manifest m;
    struct oci_index index;
    struct err err = ERR_INIT;
    struct buf out;
    arena_init(&a, 16u << 20);
    buf_init(&out, 16u << 20);
    if (oci_manifest_parse(s, &a, &m, &err) == 0) {
        oci_manifest_put(&m, &out);
        BUG_ON(out.failed);
        BUG_ON(oci_manifest_parse(str_from(buf_str(&out)), &a, &m, &err) < 0);
        if (oci_manifest_check_model(&m, &err) < 0)
            BUG_ON(!err.msg[0]);
    }
    if (oci_index_parse(s, &a, &index, &err) < 0)
        BUG_ON(!err.msg[0]);
    buf_release(&out);
    arena_release(&a);
}

static void try_config(struct str s, enum oci_media media)
{
    struct arena a;
    struct oci_config c, again;
    struct err err = ERR_INIT;
    struct buf out;
    arena_init(&a, 16u << 20);
    buf_init(&out, 16u << 20);
    if (oci_config_parse(s, media, &a, &c, &err) == 0) {
        oci_config_put(&c, &out);
        BUG_ON(out.failed);
        if (oci_config_parse(str_from(buf_str(&out)), oci_config_media(c.kind), &a, &again, &err) <
            0)
            BUG_ON(err.code != E_LIMIT); /* escapes may take more room than what they stand for */
        else
            BUG_ON(c.gguf.n != again.gguf.n || c.context_size != again.context_size);
    }
    buf_release(&out);
    arena_release(&a);
}

/* An artifact taken apart and built again, as it is and as ModelPack. */
static void try_package(struct str s)
{
    struct arena a;
    struct oci_package p;
    struct oci_manifest m;
    struct buf config, manifest;
    struct err err = ERR_INIT;
    arena_init(&a, 16u << 20);
    int rc = oci_package_from(s, str_from("{}"), &a, &p, &err);
    for (int pass = 0; rc == 0 && pass < 2; pass++) {
        rc = oci_package_build(&p, &a, &config, &manifest, &err);
        if (rc == 0)
            BUG_ON(oci_manifest_parse((struct str){manifest.data, manifest.len}, &a, &m, &err) < 0);
        buf_release(&config);
        buf_release(&manifest);
        oci_package_convert(&p, OCI_CONFIG_CNCF);
    }
    arena_release(&a);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0)
        return 0;
    struct str s = {(const char *)data + 1, size - 1};
    if (data[0] & 2) {
        try_config(s, data[0] & 4 ? MEDIA_CNCF_CONFIG : MEDIA_UNKNOWN);
    } else if (data[0] & 1) {
        try_reference(s);
    } else {
        try_manifest(s);
        try_package(s);
    }
    return 0;
}
