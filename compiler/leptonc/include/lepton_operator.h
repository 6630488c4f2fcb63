/* How leptonc calls an operator that is a C function in a shared library.
 *
 *     #include <lepton_operator.h>
 *     LEPTON_OPERATOR_LIBRARY
 *
 *     LEPTON_OPERATOR
 *     int my_operator(const lepton_tensor *in, int n_in, lepton_tensor *out, int n_out) { ... }
 *
 * `in` holds the operands in the order of the operator's signature, then its attributes in the
 * order in which they are declared; `out` holds the results. An operand, an attribute or a result
 * that is absent has rank -1 and no data: nobody reads such a result, and nothing is written to it.
 * Other results have their element type and shape already; the function fills in their elements.
 *
 * Elements are in row-major order without gaps. The function returns 0, or a number that the error
 * of the run tells. It may be called by several threads at once, must not keep a pointer that it
 * was given, and must not raise an exception through its caller.
 */
#ifndef LEPTON_OPERATOR_H
#define LEPTON_OPERATOR_H

#include <stdint.h>

#define LEPTON_ABI_VERSION 1

/* Element types. Those of an attribute: LEPTON_I64 for integers, LEPTON_F64 for numbers,
 * LEPTON_U8 for the bytes of text, LEPTON_BOOL for truth. */
enum {
  LEPTON_BOOL = 1, LEPTON_I8 = 2, LEPTON_I16 = 3, LEPTON_I32 = 4, LEPTON_I64 = 5,
  LEPTON_U8 = 6, LEPTON_U16 = 7, LEPTON_U32 = 8, LEPTON_U64 = 9,
  LEPTON_F16 = 10, LEPTON_BF16 = 11, LEPTON_F32 = 12, LEPTON_F64 = 13
};

typedef struct {
  void *data;
  const int64_t *shape; /* rank extents */
  int32_t rank;         /* -1 where the tensor is absent */
  int32_t dtype;
} lepton_tensor;

#if defined(__cplusplus)
#define LEPTON_OPERATOR extern "C" __attribute__((visibility("default")))
#define LEPTON_OPERATOR_LIBRARY \
  extern "C" __attribute__((visibility("default"))) const int lepton_abi_version = \
      LEPTON_ABI_VERSION;
#else
#define LEPTON_OPERATOR __attribute__((visibility("default")))
#define LEPTON_OPERATOR_LIBRARY \
  __attribute__((visibility("default"))) const int lepton_abi_version = LEPTON_ABI_VERSION;
#endif

/* The number of elements of a tensor that is there. */
static inline int64_t lepton_size(const lepton_tensor *tensor) {
  int64_t size = 1;
  for (int32_t axis = 0; axis < tensor->rank; ++axis) size *= tensor->shape[axis];
  return size;
}

#endif
