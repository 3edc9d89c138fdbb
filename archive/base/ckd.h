/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ckd - checked integer arithmetic under the C23 names.
 *
 * Each stores the result and returns true when it does not fit the type of *r; then *r holds
 * the wrapped value and must not be used.
 */
#ifndef PXARFS_BASE_CKD_H
#define PXARFS_BASE_CKD_H

#define ckd_add(r, a, b) __builtin_add_overflow((a), (b), (r))
#define ckd_sub(r, a, b) __builtin_sub_overflow((a), (b), (r))
#define ckd_mul(r, a, b) __builtin_mul_overflow((a), (b), (r))

#endif
