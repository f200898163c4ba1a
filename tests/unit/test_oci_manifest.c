/* SPDX-License-Identifier: Apache-2.0 */
/* Manifests: Docker's and ModelPack's models are understood, what is hostile or no model is
 * refused, and what berth writes reads back the same. */
#include "tests/support/cmocka_all.h"

#include <string.h>

#include "lib/base/limits.h"
#include "lib/oci/manifest.h"

#define HEX    "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
#define DIGEST "sha256:" HEX
#define AI     "application/vnd.docker.ai."
#define CNCF   "application/vnd.cncf.model."
#define DESCRIPTOR(type, size)                                                                     \
    "{\"mediaType\":\"" type "\",\"digest\":\"" DIGEST "\",\"size\":" size "}"
#define FILE_LAYER(type, path)                                                                     \
    "{\"mediaType\":\"" type "\",\"digest\":\"" DIGEST "\",\"size\":7,"                            \
    "\"annotations\":{\"org.cncf.model.filepath\":\"" path "\",\"other\":\"x\"}}"
#define MANIFEST(config, layers)                                                                   \
    "{\"schemaVersion\":2,\"mediaType\":\"application/vnd.oci.image.manifest.v1+json\","           \
    "\"config\":" config ",\"layers\":[" layers "]}"
#define DOCKER_CONFIG DESCRIPTOR(AI "model.config.v0.1+json", "3")

static int parse(const char *text, struct arena *a, struct oci_manifest *m, struct err *err)
{
    arena_init(a, 16u << 20);
    return oci_manifest_parse(str_from(text), a, m, err);
}

static void test_models(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        enum oci_role roles[3];
    } models[] = {
        {MANIFEST(DOCKER_CONFIG, DESCRIPTOR(AI "gguf.v3", "10") "," DESCRIPTOR(AI "license", "5")),
         {ROLE_GGUF, ROLE_LICENSE}},
        {MANIFEST(DOCKER_CONFIG, DESCRIPTOR(AI "gguf.v3", "10") "," DESCRIPTOR(AI "mmproj", "5")),
         {ROLE_GGUF, ROLE_MMPROJ}},
        {MANIFEST(DESCRIPTOR(AI "model.config.v0.2+json", "3"),
                  FILE_LAYER(AI "safetensors", "model.safetensors") "," FILE_LAYER(
                      AI "model.file", "nested/config.json")),
         {ROLE_SAFETENSORS, ROLE_FILE}},
        {MANIFEST(DESCRIPTOR(CNCF "config.v1+json", "3"),
                  FILE_LAYER(CNCF "weight.v1.raw", "m.GGUF") "," FILE_LAYER(
                      CNCF "weight.v1.raw", "m-mmproj-f16.gguf") "," FILE_LAYER(CNCF "doc.v1.raw",
                                                                                "README.md")),
         {ROLE_GGUF, ROLE_MMPROJ, ROLE_LICENSE}},
        {MANIFEST(DESCRIPTOR(CNCF "config.v1+json", "3"),
                  FILE_LAYER(CNCF "weight.v1.tar+zstd", "weights")),
         {ROLE_WEIGHT}},
    };
    for (size_t i = 0; i < ARRAY_LEN(models); i++) {
        struct arena a;
        struct oci_manifest m;
        struct err err = ERR_INIT;
        if (parse(models[i].text, &a, &m, &err) < 0 || oci_manifest_check_model(&m, &err) < 0)
            fail_msg("model %zu: %s", i, err.msg);
        for (uint32_t l = 0; l < m.n_layers; l++)
            assert_int_equal(m.layers[l].role, models[i].roles[l]);
        arena_release(&a);
    }
}

static void test_media_table(void **state)
{
    (void)state;
    for (int i = 0; i < MEDIA_UNKNOWN; i++)
        assert_int_equal(oci_media_find(str_from(oci_media_type((enum oci_media)i))), i);
    assert_int_equal(oci_media_find(STR_LIT("application/json")), MEDIA_UNKNOWN);
    assert_int_equal(oci_media_packing(MEDIA_CNCF_WEIGHT_ZSTD), PACKING_TAR_ZSTD);
    assert_int_equal(oci_media_role(MEDIA_UNKNOWN), ROLE_UNKNOWN);
}

static void test_written_reads_back(void **state)
{
    (void)state;
    static const char text[] =
        MANIFEST(DESCRIPTOR(AI "model.config.v0.2+json", "3"),
                 DESCRIPTOR(AI "safetensors", "281474976710656") "," FILE_LAYER(AI "model.file",
                                                                                "a/\\u00e9.json"));
    struct arena a, b;
    struct oci_manifest m, again;
    struct err err = ERR_INIT;
    struct buf out, twice;
    assert_int_equal(parse(text, &a, &m, &err), 0);
    assert_true(m.total_bytes == 281474976710656u + 7 + 3);
    buf_init(&out, 1 << 16);
    buf_init(&twice, 1 << 16);
    oci_manifest_put(&m, &out);
    assert_int_equal(parse(buf_str(&out), &b, &again, &err), 0);
    oci_manifest_put(&again, &twice);
    assert_string_equal(buf_str(&out), buf_str(&twice));
    assert_string_equal(again.layers[1].path, "a/\xc3\xa9.json");
    buf_release(&out);
    buf_release(&twice);
    arena_release(&a);
    arena_release(&b);
}

static void test_refusals(void **state)
{
    (void)state;
    static const struct {
        const char *text, *says;
    } bad[] = {
        {"", "manifest"},
        {"[]", "an array"},
        {"{}", "schemaVersion"},
        {"{\"schemaVersion\":1}", "schemaVersion"},
        {"{\"schemaVersion\":2,\"manifests\":[]}", "index"},
        {"{\"schemaVersion\":2,\"mediaType\":\"text/plain\"}", "media type"},
        {"{\"schemaVersion\":2}", "'config'"},
        {"{\"schemaVersion\":2,\"config\":" DOCKER_CONFIG "}", "'layers'"},
        {MANIFEST("{}", ""), "'mediaType'"},
        {MANIFEST(DOCKER_CONFIG, "{\"mediaType\":\"x/y\",\"digest\":\"" DIGEST "\"}"), "'size'"},
        {MANIFEST(DOCKER_CONFIG, DESCRIPTOR(AI "gguf.v3", "-1")), "size"},
        {MANIFEST(DOCKER_CONFIG, DESCRIPTOR(AI "gguf.v3", "9223372036854775807")), "size"},
        {MANIFEST(DOCKER_CONFIG, DESCRIPTOR(AI "gguf.v3", "1.5")), "size"},
        {MANIFEST(DOCKER_CONFIG,
                  "{\"mediaType\":\"x/y\",\"size\":1,\"digest\":\"sha256:../../etc/x\"}"),
         "not a digest"},
        {MANIFEST(DOCKER_CONFIG,
                  "{\"mediaType\":\"x/y\",\"size\":1,\"digest\":\"sha512:" HEX HEX "\"}"),
         "sha512"},
        {MANIFEST(DOCKER_CONFIG, "{\"mediaType\":\"x/y\",\"size\":1,\"digest\":\"" DIGEST
                                 "\",\"urls\":[\"http://169.254.169.254/\"]}"),
         "urls"},
        {MANIFEST(DOCKER_CONFIG, FILE_LAYER(AI "model.file", "../x")), "path"},
        {MANIFEST(DOCKER_CONFIG, FILE_LAYER(AI "model.file", "/etc/passwd")), "path"},
        {MANIFEST(DOCKER_CONFIG, FILE_LAYER(AI "model.file", "a/../../b")), "path"},
        {MANIFEST(DOCKER_CONFIG, FILE_LAYER(AI "model.file", "a//b")), "path"},
        {MANIFEST(DOCKER_CONFIG, FILE_LAYER(AI "model.file", "a/")), "path"},
        {MANIFEST(DOCKER_CONFIG, FILE_LAYER(AI "model.file", "./a")), "path"},
        {MANIFEST(DOCKER_CONFIG, FILE_LAYER(AI "model.file", "")), "path"},
        {MANIFEST(DOCKER_CONFIG, FILE_LAYER(AI "model.file", "C:\\\\x")), "path"},
        {MANIFEST(DOCKER_CONFIG, FILE_LAYER(AI "model.file", "C:x")), "path"},
        {MANIFEST(DOCKER_CONFIG, FILE_LAYER(AI "model.file", "a\\nb")), "path"},
        {MANIFEST(DOCKER_CONFIG, FILE_LAYER(AI "model.file", "a\\u0000b")), ""},
    };
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        struct arena a;
        struct oci_manifest m;
        struct err err = ERR_INIT;
        if (parse(bad[i].text, &a, &m, &err) >= 0)
            fail_msg("row %zu was taken: %s", i, bad[i].text);
        if (!strstr(err.msg, bad[i].says))
            fail_msg("row %zu: '%s' does not say %s", i, err.msg, bad[i].says);
        arena_release(&a);
    }
}

static void test_what_is_no_model(void **state)
{
    (void)state;
    static const char *const texts[] = {
        MANIFEST(DESCRIPTOR("application/vnd.oci.image.config.v1+json", "3"),
                 DESCRIPTOR("application/vnd.oci.image.layer.v1.tar+gzip", "10")),
        MANIFEST(DOCKER_CONFIG, ""),
        MANIFEST(DOCKER_CONFIG, DESCRIPTOR(AI "license", "5")),
        MANIFEST(DOCKER_CONFIG,
                 DESCRIPTOR(AI "gguf.v3", "5") "," DESCRIPTOR(AI "safetensors", "5")),
        MANIFEST(DESCRIPTOR(AI "model.config.v0.2+json", "3"),
                 FILE_LAYER(AI "safetensors", "m.st") "," FILE_LAYER(AI "model.file", "m.st")),
    };
    for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
        struct arena a;
        struct oci_manifest m;
        struct err err = ERR_INIT;
        assert_int_equal(parse(texts[i], &a, &m, &err), 0);
        assert_true(oci_manifest_check_model(&m, &err) < 0);
        assert_true(err.msg[0]);
        arena_release(&a);
    }
}

static void test_many_layers(void **state)
{
    (void)state;
    struct buf text;
    struct arena a;
    struct oci_manifest m;
    struct err err = ERR_INIT;
    for (uint32_t n = LIMIT_OCI_LAYERS; n <= LIMIT_OCI_LAYERS + 1; n++) {
        buf_init(&text, 8u << 20);
        buf_append_str(&text, "{\"schemaVersion\":2,\"config\":" DOCKER_CONFIG ",\"layers\":[");
        for (uint32_t i = 0; i < n; i++)
            buf_printf(&text, "%s%s", i ? "," : "", DESCRIPTOR(AI "gguf.v3", "1"));
        buf_append_str(&text, "]}");
        assert_int_equal(parse(buf_str(&text), &a, &m, &err) == 0, n == LIMIT_OCI_LAYERS);
        arena_release(&a);
        buf_release(&text);
    }
}

static void test_index(void **state)
{
    (void)state;
    static const char text[] = "{\"schemaVersion\":2,\"manifests\":[" DESCRIPTOR(
        "application/vnd.oci.image.manifest.v1+json", "9") "]}";
    struct arena a;
    struct oci_index index;
    struct err err = ERR_INIT;
    arena_init(&a, 1 << 20);
    assert_int_equal(oci_index_parse(str_from(text), &a, &index, &err), 0);
    assert_int_equal(index.n_manifests, 1);
    assert_int_equal(index.manifests[0].role, ROLE_MANIFEST);
    assert_true(oci_index_parse(STR_LIT("{\"schemaVersion\":2}"), &a, &index, &err) < 0);
    arena_release(&a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_models),
        cmocka_unit_test(test_media_table),
        cmocka_unit_test(test_written_reads_back),
        cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_what_is_no_model),
        cmocka_unit_test(test_many_layers),
        cmocka_unit_test(test_index),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
