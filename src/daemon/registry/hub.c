/* SPDX-License-Identifier: Apache-2.0 */
/* Models of the hub: not here yet. */
#include "daemon/registry/registry_impl.h"
int hub_pull(struct job *j, struct fetch *f, const struct oci_reference *ref,
             struct registry_result *ret, struct err *err)
{
    (void)j;
    (void)f;
    (void)ref;
    (void)ret;
    return err_set(err, E_UNSUPPORTED, "models of huggingface.co cannot be pulled yet");
}
