/* SPDX-License-Identifier: Apache-2.0 */
/* Between transfer.c and transfer_draw.c. */
#ifndef CLI_ARTIFACT_TRANSFER_IMPL_H
#define CLI_ARTIFACT_TRANSFER_IMPL_H

#include "cli/artifact/transfer.h"

/* Shows how far it is, if it is time to. */
void transfer_show(struct transfer *t);
/* A sentence that is no progress, on standard error, above what is drawn. */
void transfer_note(struct transfer *t, const char *sentence);

#endif
