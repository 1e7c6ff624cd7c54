// The edge stage of HGNN-IMA in one pass over the edges, node by node: scores, the four softmaxes,
// the weighted sum. Nothing is kept per edge; the backward pass computes the scores again.
//
// Heads are the lanes of a vector; where a register holds more, those of several channels are.
// Compiled for one number of modalities (M), channels per head (DK), lanes (H, a power of two) and
// one scalar type (T). Arrays have the heads as their fastest axis: queries (M, N, DK, H), keys and
// values (M, N, 2, DK, H), relation matrices (R, DK, DK, H).
// Equation numbers are those of Li et al., IJCAI 2025; _edge_stage.py is the same in torch.
#include <cmath>
#include <cstdint>
#include <cstring>
#include <functional>
#include <limits>
#include <thread>
#include <utility>
#include <vector>

namespace {

#if defined(__has_builtin)
#if __has_builtin(__builtin_shufflevector)  // clang, and GCC from 12 on
#define CAN_SHUFFLE
#endif
#endif
#if defined(CAN_SHUFFLE) && defined(__AVX512F__)
const int REGISTER = 64;  // bytes
#elif defined(CAN_SHUFFLE) && defined(__AVX__)
const int REGISTER = 32;
#elif defined(CAN_SHUFFLE)
const int REGISTER = 16;
#else
const int REGISTER = 0;
#endif
constexpr int channels_per_register() {
  int n = 1;
  while (2 * n * H * int(sizeof(T)) <= REGISTER && DK % (2 * n) == 0) n *= 2;
  return n;
}
const int C = channels_per_register();
const int D = DK / C;       // registers of one query, key or value
const int F = DK * H;       // scalars of it
const int MATRIX = DK * F;  // scalars of one relation's matrix

// The heads of one channel, and of C channels
typedef T vec __attribute__((vector_size(H * sizeof(T))));
typedef T wide __attribute__((vector_size(C * H * sizeof(T))));
typedef T loose_vec __attribute__((vector_size(H * sizeof(T)), aligned(sizeof(T)), may_alias));
typedef T loose __attribute__((vector_size(C * H * sizeof(T)), aligned(sizeof(T)), may_alias));

enum CrossModal { ADAPTIVE, NODE, MEAN, NONE };
enum Norm { SOFTMAX, RENORMALIZE, OUTER };

inline const loose& at(const T* row, int d) { return reinterpret_cast<const loose*>(row)[d]; }
inline loose& at(T* row, int d) { return reinterpret_cast<loose*>(row)[d]; }
// A vector for each of C channels, and the sum over them, by doubling and halving: GCC takes the
// way through memory where a shuffle does more.
#ifdef CAN_SHUFFLE
template <int n, class V, int... I>
inline auto twice(V a, std::integer_sequence<int, I...>) {
  return __builtin_shufflevector(a, a, (I % n)...);
}
template <int n, class V>
inline auto repeat(V a) {
  if constexpr (n == C * H) return a;
  else return repeat<2 * n>(twice<n>(a, std::make_integer_sequence<int, 2 * n>()));
}
template <int n, class V, int... I>
inline auto halved(V a, std::integer_sequence<int, I...>) {
  return __builtin_shufflevector(a, a, I...) + __builtin_shufflevector(a, a, (n / 2 + I)...);
}
template <int n, class V>
inline auto add_halves(V a) {
  if constexpr (n == H) return a;
  else return add_halves<n / 2>(halved<n>(a, std::make_integer_sequence<int, n / 2>()));
}
inline wide spread(vec a) { return repeat<H>(a); }
inline vec sum_channels(wide a) { return add_halves<C * H>(a); }
#else
inline wide spread(vec a) { return a; }
inline vec sum_channels(wide a) { return a; }
#endif
// channel k of a row, C times
inline wide channel(const T* row, int k) {
  return spread(reinterpret_cast<const loose_vec*>(row)[k]);
}
inline T* scalars(wide* row) { return reinterpret_cast<T*>(row); }
inline const T* scalars(const wide* row) { return reinterpret_cast<const T*>(row); }

inline vec fill(T x) {
  vec out;
  for (int h = 0; h < H; h++) out[h] = x;
  return out;
}
inline vec larger(vec a, vec b) { return a > b ? a : b; }
inline vec absolute(vec a) { return a > fill(0) ? a : -a; }
inline vec sign(vec a) {
  vec one = fill(1), zero = fill(0);
  return a > zero ? one : (a < zero ? -one : zero);
}
inline double sum_heads(vec a, int heads) {
  double out = 0;
  for (int h = 0; h < heads; h++) out += a[h];
  return out;
}

// e^x for x <= 0 or so: float by the Cephes polynomial (relative error 1e-7), double by the library
inline vec exponential(vec x) {
  if (sizeof(T) == 8) {
    vec out;
    for (int h = 0; h < H; h++) out[h] = std::exp(x[h]);
    return out;
  }
  typedef uint32_t ints __attribute__((vector_size(H * 4)));
  const vec one = fill(1), magic = fill(T(12582912));  // 1.5 * 2^23: what is added to it is rounded
  x = larger(x, fill(T(-87)));
  const vec shifted = x * fill(T(1.44269504088896)) + magic, n = shifted - magic;
  const vec r = x - n * fill(T(0.693359375)) + n * fill(T(2.12194440e-4));
  vec p = fill(T(1.9875691500e-4));
  p = p * r + fill(T(1.3981999507e-3));
  p = p * r + fill(T(8.3334519073e-3));
  p = p * r + fill(T(4.1665795894e-2));
  p = p * r + fill(T(1.6666665459e-1));
  p = p * r + fill(T(5.0000001201e-1));
  p = p * r * r + r + one;
  ints bits{};  // the lowest of those of `shifted` hold n
  vec power = one;
  const size_t size = sizeof(bits) < sizeof(power) ? sizeof(bits) : sizeof(power);
  std::memcpy(&bits, &shifted, size);
  bits = (bits + 127) << 23;
  std::memcpy(&power, &bits, size);
  return p * power;
}

}  // namespace

// Filled in by skmmg/nn/_fused.py; the two have to agree.
extern "C" struct Task {
  const T *query, *pair;              // pair: key and value, those of a node side by side
  const T *w_node, *w_modal, *w_msg;  // w_modal: one per relation, or one per modality too
  const T *w_node_t, *w_modal_t, *w_msg_t;  // the same with their channels exchanged
  const int32_t *src, *run_ptr, *run_relation, *node_ptr;  // runs: edges of one node and relation
  const uint8_t* lacking;             // (M, E) or null
  const int64_t* cuts;                // first node of every thread
  double* paid;                       // one per thread
  T* out;
  const T *grad_out, *grad_paid;
  T *grad_query, *grad_pair, *grad_w_node, *grad_w_modal, *grad_w_msg;  // but the first: per thread
  int64_t query_stride;               // scalars from one modality to the next
  int64_t n_edges, longest;           // longest: most edges into one node
  int64_t pair_size, matrices_size, modal_size;
  double align_scale;
  int32_t n_threads, heads, by_relation, cross_modal, norm, align, add, modal_per_modality;
};

namespace {

const int AHEAD = 6;  // edges
const T TINY = std::numeric_limits<T>::min();

struct Rows {
  wide x[M][D];
};

// The edges of one softmax, and everything about them
struct Segment {
  // of every run: queries times W_node and W_modal; the sum's gradient times W_msg
  std::vector<Rows> folded, asked;
  std::vector<vec> raw, alpha, lam, beta, align, weight, grad, grad_align, grad_lam;
  int n = 0, own;  // own: modalities that have weights of their own, or 1
  Segment(int64_t longest, const Task& t)
      : raw(longest * M), alpha(longest * M), lam(longest * M), align(longest),
        own(t.cross_modal == NONE ? M : 1) {
    beta.resize(longest * own);
    weight.resize(longest * own);
    if (!t.grad_out) return;
    grad.resize(longest * own);
    grad_align.resize(longest);
    grad_lam.resize(longest * M);
  }
};

inline bool has_lam(const Task& t) { return t.cross_modal <= NODE; }
inline const T* query_of(const Task& t, int64_t i, int m) {
  return t.query + m * t.query_stride + i * F;
}
inline const T* key_of(const Task& t, int64_t j, int m) {
  return t.pair + (j * M + m) * 2 * F;
}
inline int64_t modal_matrix(const Task& t, int relation, int m) {
  return (t.modal_per_modality ? relation * M + m : relation) * int64_t(MATRIX);
}

// out[k] += sum_c W[c, k] x[c]
inline void multiply(const T* w, const T* x, T* out) {
  wide sum[D];
  for (int d = 0; d < D; d++) sum[d] = at(out, d);
  for (int c = 0; c < DK; c++) {
    const wide xc = channel(x, c);
    for (int d = 0; d < D; d++) sum[d] += at(w + c * F, d) * xc;
  }
  for (int d = 0; d < D; d++) at(out, d) = sum[d];
}
// grad[c, k] += sum_m a[m][c] * b_m[k], for n modalities whose rows b_m stand `stride` apart
inline void add_outer(const wide (*a)[D], const T* b, int64_t stride, int n, T* grad) {
  for (int c = 0; c < DK; c++)
    for (int d = 0; d < D; d++) {
      wide sum = at(grad + c * F, d);
      for (int m = 0; m < n; m++) sum += channel(scalars(a[m]), c) * at(b + m * stride, d);
      at(grad + c * F, d) = sum;
    }
}
// Fetch what an edge further on will need; it may be one of the next node. Left to itself, GCC takes
// a function that does nothing but this for one that does nothing, and leaves its call out.
#define PREFETCHES __attribute__((always_inline)) inline
PREFETCHES void prefetch(const Task& t, int64_t edge) {
  if (edge >= t.n_edges) return;
  for (int m = 0; m < M; m++) {
    const char* p = reinterpret_cast<const char*>(key_of(t, t.src[edge], m));
    for (size_t b = 0; b < 2 * F * sizeof(T); b += 64) __builtin_prefetch(p + b);
  }
}
PREFETCHES void prefetch_grad(const Task& t, const T* grad_pair, int64_t edge) {
  if (edge >= t.n_edges) return;
  for (int m = 0; m < M; m++) {
    const T* row = grad_pair + (int64_t(t.src[edge]) * M + m) * 2 * F;
    const char* p = reinterpret_cast<const char*>(row);
    for (size_t b = 0; b < 2 * F * sizeof(T); b += 64) __builtin_prefetch(p + b, 1);
  }
}

// (2), (4): scores of the edges of runs s to s1, into node i
void find_scores(const Task& t, int64_t i, int s, int s1, Segment& x) {
  const int start = t.run_ptr[s];
  const bool modal = has_lam(t);
  x.n = t.run_ptr[s1] - start;
  x.folded.resize((s1 - s) * 2);
  for (int run = s; run < s1; run++) {
    const int r = t.run_relation[run];
    wide(&for_node)[M][D] = x.folded[(run - s) * 2].x;
    wide(&for_modal)[M][D] = x.folded[(run - s) * 2 + 1].x;
    for (int m = 0; m < M; m++) {
      for (int d = 0; d < D; d++) for_node[m][d] = for_modal[m][d] = wide{};
      multiply(t.w_node_t + r * int64_t(MATRIX), query_of(t, i, m), scalars(for_node[m]));
      if (!modal) continue;
      multiply(t.w_modal_t + modal_matrix(t, r, m), query_of(t, i, m), scalars(for_modal[m]));
    }
    for (int e = t.run_ptr[run]; e < t.run_ptr[run + 1]; e++) {
      prefetch(t, e + AHEAD);
      for (int m = 0; m < M; m++) {
        const T* key = key_of(t, t.src[e], m);
        wide g{}, l{};
        for (int d = 0; d < D; d++) g += at(key, d) * for_node[m][d];
        if (modal)
          for (int d = 0; d < D; d++) l += at(key, d) * for_modal[m][d];
        x.raw[(e - start) * M + m] = sum_channels(g);
        x.lam[(e - start) * M + m] = sum_channels(l);
      }
    }
  }
}

inline vec disagreement(const vec* g) {
  vec out = fill(0);
  for (int a = 0; a < M; a++)
    for (int b = a + 1; b < M; b++) out += absolute(g[a] - g[b]);
  return out;
}

// softmax over the edges of values (n, W), in place; within [0, 2] no shift is needed
template <int W>
void softmax(vec* x, int n, bool shift) {
  vec top[W] = {}, total[W] = {};
  if (shift) {
    for (int m = 0; m < W; m++) top[m] = x[m];
    for (int e = 1; e < n; e++)
      for (int m = 0; m < W; m++) top[m] = larger(top[m], x[e * W + m]);
  }
  for (int e = 0; e < n; e++)
    for (int m = 0; m < W; m++) total[m] += x[e * W + m] = exponential(x[e * W + m] - top[m]);
  for (int m = 0; m < W; m++) total[m] = fill(1) / total[m];
  for (int e = 0; e < n; e++)
    for (int m = 0; m < W; m++) x[e * W + m] *= total[m];
}
// grad = y (grad - sum_e y grad)
template <int W>
void softmax_backward(const vec* y, vec* grad, int n) {
  vec total[W] = {};
  for (int e = 0; e < n; e++)
    for (int m = 0; m < W; m++) total[m] += y[e * W + m] * grad[e * W + m];
  for (int e = 0; e < n; e++)
    for (int m = 0; m < W; m++) {
      const int i = e * W + m;
      grad[i] = y[i] * (grad[i] - total[m]);
    }
}

// (5): softmax over the modalities; of the mean over the edges for NODE
void find_lam(const Task& t, Segment& x) {
  if (t.cross_modal == NODE) {
    for (int m = 0; m < M; m++) {
      vec mean = fill(0);
      for (int e = 0; e < x.n; e++) mean += x.lam[e * M + m];
      mean /= fill(T(x.n));
      for (int e = 0; e < x.n; e++) x.lam[e * M + m] = mean;
    }
  }
  for (int e = 0; e < x.n; e++) {
    vec* l = &x.lam[e * M];
    vec top = l[0], total = fill(0);
    for (int m = 1; m < M; m++) top = larger(top, l[m]);
    for (int m = 0; m < M; m++) total += l[m] = exponential(l[m] - top);
    for (int m = 0; m < M; m++) l[m] /= total;
  }
}

// (6), without its softmax
void find_beta(const Task& t, Segment& x) {
  for (int e = 0; e < x.n; e++) {
    const vec *a = &x.alpha[e * M], *l = &x.lam[e * M];
    if (t.cross_modal == NONE) {
      for (int m = 0; m < M; m++) x.beta[e * M + m] = a[m];
      continue;
    }
    vec sum = fill(0);
    for (int m = 0; m < M; m++) sum += t.cross_modal == MEAN ? a[m] : a[m] * l[m];
    x.beta[e] = t.cross_modal == MEAN ? sum / fill(T(M)) : sum;
  }
}

// values divided by their sum over the edges; where that underflows, beta exp(-D) in logarithms
void renormalize(const Task& t, Segment& x) {
  for (int m = 0; m < x.own; m++) {
    vec total = fill(0);
    for (int e = 0; e < x.n; e++) {
      const vec b = x.beta[e * x.own + m];
      total += x.weight[e * x.own + m] = !t.align ? b : t.add ? b + x.align[e] : b * x.align[e];
    }
    for (int e = 0; e < x.n; e++) x.weight[e * x.own + m] /= total;
    for (int h = 0; h < H; h++) {
      if (total[h] > T(1e-25)) continue;
      T top = -std::numeric_limits<T>::infinity(), sum = 0;
      for (int e = 0; e < x.n; e++) {
        const T b = x.beta[e * x.own + m][h];
        T c = std::log(b > TINY ? b : TINY);
        if (t.align) c -= T(t.align_scale) * disagreement(&x.raw[e * M])[h];
        x.weight[e * x.own + m][h] = c;
        top = c > top ? c : top;
      }
      for (int e = 0; e < x.n; e++) {
        const T w = std::exp(x.weight[e * x.own + m][h] - top);
        x.weight[e * x.own + m][h] = w;
        sum += w;
      }
      for (int e = 0; e < x.n; e++) x.weight[e * x.own + m][h] /= sum;
    }
  }
}

inline bool beta_is_softmax(const Task& t) { return t.norm == SOFTMAX && t.cross_modal != NONE; }
inline bool beta_is_weight(const Task& t) {
  return !t.align && (t.norm == SOFTMAX || t.cross_modal == NONE);
}

// (3), (5), (6), (8), (9)
void find_weights(const Task& t, Segment& x) {
  const int n = x.n;
  std::memcpy(static_cast<void*>(x.alpha.data()), x.raw.data(), sizeof(vec) * n * M);
  softmax<M>(x.alpha.data(), n, true);
  if (t.align) {
    for (int e = 0; e < n; e++) x.align[e] = disagreement(&x.raw[e * M]) * fill(T(-t.align_scale));
    softmax<1>(x.align.data(), n, true);
  }
  if (has_lam(t)) find_lam(t, x);
  find_beta(t, x);
  if (beta_is_softmax(t)) softmax<1>(x.beta.data(), n, false);
  if (t.norm == RENORMALIZE && !beta_is_weight(t)) return renormalize(t, x);
  for (int e = 0; e < n; e++)
    for (int m = 0; m < x.own; m++) {
      const vec b = x.beta[e * x.own + m];
      x.weight[e * x.own + m] = !t.align ? b : t.add ? b + x.align[e] : b * x.align[e];
    }
  if (beta_is_weight(t)) return;
  if (x.own > 1) softmax<M>(x.weight.data(), n, false);
  else softmax<1>(x.weight.data(), n, false);
}

// (10): sums of the runs' values into node i
void add_values(const Task& t, int s, int s1, const Segment& x, wide out[M][D]) {
  const int start = t.run_ptr[s];
  for (int run = s; run < s1; run++) {
    wide sum[M][D] = {};
    for (int e = t.run_ptr[run]; e < t.run_ptr[run + 1]; e++) {
      const vec* w = &x.weight[(e - start) * x.own];
      for (int m = 0; m < M; m++) {
        const T* value = key_of(t, t.src[e], m) + F;
        const wide wm = spread(w[x.own > 1 ? m : 0]);
        for (int d = 0; d < D; d++) sum[m][d] += wm * at(value, d);
      }
    }
    const T* w_msg = t.w_msg + t.run_relation[run] * int64_t(MATRIX);
    for (int m = 0; m < M; m++) multiply(w_msg, scalars(sum[m]), scalars(out[m]));
  }
}

// inter-modal attention paid to what the sources lack
double find_paid(const Task& t, int start, const Segment& x) {
  double out = 0;
  for (int m = 0; m < M; m++)
    for (int e = 0; e < x.n; e++)
      if (t.lacking[m * t.n_edges + start + e]) out += sum_heads(x.lam[e * M + m], t.heads);
  return out / t.heads;
}

void forward_nodes(const Task& t, int thread) {
  Segment x(t.longest, t);
  double paid = 0;
  for (int64_t i = t.cuts[thread]; i < t.cuts[thread + 1]; i++) {
    wide out[M][D] = {};
    for (int s = t.node_ptr[i], s1; s < t.node_ptr[i + 1]; s = s1) {
      s1 = t.by_relation ? s + 1 : t.node_ptr[i + 1];
      find_scores(t, i, s, s1, x);
      find_weights(t, x);
      if (t.lacking) paid += find_paid(t, t.run_ptr[s], x);
      add_values(t, s, s1, x, out);
    }
    for (int m = 0; m < M; m++)
      for (int d = 0; d < D; d++) at(t.out + m * t.query_stride + i * F, d) = out[m][d];
  }
  t.paid[thread] = paid;
}

// gradients of the weights (9): products of the values with what their sum's gradient asks for
void grad_of_weights(const Task& t, int64_t i, int s, int s1, Segment& x) {
  const int start = t.run_ptr[s];
  x.asked.resize(s1 - s);
  for (int run = s; run < s1; run++) {
    wide(&asked)[M][D] = x.asked[run - s].x;
    const T* w_msg_t = t.w_msg_t + t.run_relation[run] * int64_t(MATRIX);
    for (int m = 0; m < M; m++) {
      for (int d = 0; d < D; d++) asked[m][d] = wide{};
      multiply(w_msg_t, t.grad_out + m * t.query_stride + i * F, scalars(asked[m]));
    }
    for (int e = t.run_ptr[run]; e < t.run_ptr[run + 1]; e++) {
      wide total{};
      for (int m = 0; m < M; m++) {
        const T* value = key_of(t, t.src[e], m) + F;
        wide sum{};
        for (int d = 0; d < D; d++) sum += at(value, d) * asked[m][d];
        if (x.own > 1) x.grad[(e - start) * M + m] = sum_channels(sum);
        total += sum;
      }
      if (x.own == 1) x.grad[e - start] = sum_channels(total);
    }
  }
}

inline vec divide(vec a, vec b) { return b > fill(TINY) ? a / b : fill(0); }

// through (9) and (8): grad becomes that of beta, grad_align that of -D
void grad_of_beta(const Task& t, Segment& x) {
  const int n = x.n;
  const bool logarithm = t.norm == RENORMALIZE && !beta_is_weight(t);
  if (!beta_is_weight(t)) {
    if (x.own > 1) softmax_backward<M>(x.weight.data(), x.grad.data(), n);
    else softmax_backward<1>(x.weight.data(), x.grad.data(), n);
  }
  for (int e = 0; e < n; e++) {
    vec to_align = fill(0);
    for (int m = 0; m < x.own; m++) {
      const vec p = x.grad[e * x.own + m], b = x.beta[e * x.own + m], a = x.align[e];
      if (!logarithm) {
        if (t.align && !t.add) x.grad[e * x.own + m] = p * a;
        to_align += t.add ? p : p * b;
      } else if (t.align && t.add) {
        to_align += x.grad[e * x.own + m] = divide(p, a + b);
      } else {
        x.grad[e * x.own + m] = divide(p, b);
        to_align += p;
      }
    }
    x.grad_align[e] = to_align;
  }
  if (t.align && (t.add || !logarithm))
    softmax_backward<1>(x.align.data(), x.grad_align.data(), n);
  if (beta_is_softmax(t)) softmax_backward<1>(x.beta.data(), x.grad.data(), n);
}

// through (5): grad_lam becomes the gradient of the inter-modal scores
void grad_of_lam(const Task& t, int start, Segment& x) {
  for (int e = 0; e < x.n; e++)
    for (int m = 0; m < M; m++) {
      vec g = x.grad[e] * x.alpha[e * M + m];
      if (t.lacking && t.lacking[m * t.n_edges + start + e]) g += fill(*t.grad_paid / T(t.heads));
      x.grad_lam[e * M + m] = g;
    }
  if (t.cross_modal == NODE) {
    for (int m = 0; m < M; m++) {
      vec sum = fill(0);
      for (int e = 0; e < x.n; e++) sum += x.grad_lam[e * M + m];
      for (int e = 0; e < x.n; e++) x.grad_lam[e * M + m] = sum / fill(T(x.n));
    }
  }
  for (int e = 0; e < x.n; e++) {
    vec total = fill(0), *g = &x.grad_lam[e * M];
    const vec* l = &x.lam[e * M];
    for (int m = 0; m < M; m++) total += l[m] * g[m];
    for (int m = 0; m < M; m++) g[m] = l[m] * (g[m] - total);
  }
}

// through (6), (3) and (8): alpha becomes the gradient of the inter-node scores
void grad_of_scores(const Task& t, Segment& x) {
  vec total[M];
  for (int m = 0; m < M; m++) total[m] = fill(0);
  auto grad_alpha = [&](int e, int m) {
    if (t.cross_modal == NONE) return x.grad[e * M + m];
    return t.cross_modal == MEAN ? x.grad[e] / fill(T(M)) : x.grad[e] * x.lam[e * M + m];
  };
  for (int e = 0; e < x.n; e++)
    for (int m = 0; m < M; m++) total[m] += x.alpha[e * M + m] * grad_alpha(e, m);
  for (int e = 0; e < x.n; e++) {
    const vec* g = &x.raw[e * M];
    const vec apart = t.align ? x.grad_align[e] * fill(T(-t.align_scale)) : fill(0);
    for (int m = 0; m < M; m++) {
      vec out = x.alpha[e * M + m] * (grad_alpha(e, m) - total[m]);
      if (t.align)
        for (int k = 0; k < M; k++) out += apart * sign(g[m] - g[k]);
      x.alpha[e * M + m] = out;
    }
  }
}

struct Grads {
  T *pair, *w_node, *w_modal, *w_msg;
};

// gradients of keys, values, queries and matrices
void scatter(const Task& t, int64_t i, int s, int s1, const Segment& x, const Grads& grads) {
  const int start = t.run_ptr[s];
  const bool modal = has_lam(t);
  for (int run = s; run < s1; run++) {
    const int64_t r = t.run_relation[run];
    const wide(*for_node)[D] = x.folded[(run - s) * 2].x;
    const wide(*for_modal)[D] = x.folded[(run - s) * 2 + 1].x;
    const wide(*asked)[D] = x.asked[run - s].x;
    wide keys[M][D] = {}, modal_keys[M][D] = {}, values[M][D] = {};
    for (int e = t.run_ptr[run]; e < t.run_ptr[run + 1]; e++) {
      prefetch_grad(t, grads.pair, e + AHEAD);
      for (int m = 0; m < M; m++) {
        const int64_t at_pair = (int64_t(t.src[e]) * M + m) * 2 * F;
        const T* key = t.pair + at_pair;
        T* out = grads.pair + at_pair;
        const wide w = spread(x.weight[(e - start) * x.own + (x.own > 1 ? m : 0)]);
        const wide g = spread(x.alpha[(e - start) * M + m]);
        const wide l = modal ? spread(x.grad_lam[(e - start) * M + m]) : wide{};
        for (int d = 0; d < D; d++) {
          const wide k = at(key, d);
          wide sum = at(out, d) + g * for_node[m][d];
          keys[m][d] += g * k;
          if (modal) {
            modal_keys[m][d] += l * k;
            sum += l * for_modal[m][d];
          }
          at(out, d) = sum;
          values[m][d] += w * at(key + F, d);
          at(out + F, d) += w * asked[m][d];
        }
      }
    }
    const T *query = query_of(t, i, 0), *grad_out = t.grad_out + i * F;
    add_outer(keys, query, t.query_stride, M, grads.w_node + r * MATRIX);
    add_outer(values, grad_out, t.query_stride, M, grads.w_msg + r * MATRIX);
    const int shared = t.modal_per_modality ? 1 : M;
    for (int m = 0; modal && m < M; m += shared)
      add_outer(modal_keys + m, query + m * t.query_stride, t.query_stride, shared,
                grads.w_modal + modal_matrix(t, r, m));
    for (int m = 0; m < M; m++) {
      T* grad_query = t.grad_query + m * t.query_stride + i * F;
      multiply(t.w_node + r * MATRIX, scalars(keys[m]), grad_query);
      if (modal)
        multiply(t.w_modal + modal_matrix(t, r, m), scalars(modal_keys[m]), grad_query);
    }
  }
}

void backward_nodes(const Task& t, int thread) {
  Segment x(t.longest, t);
  const Grads grads{t.grad_pair + thread * t.pair_size, t.grad_w_node + thread * t.matrices_size,
                    t.grad_w_modal + thread * t.modal_size,
                    t.grad_w_msg + thread * t.matrices_size};
  for (int64_t i = t.cuts[thread]; i < t.cuts[thread + 1]; i++)
    for (int s = t.node_ptr[i], s1; s < t.node_ptr[i + 1]; s = s1) {
      s1 = t.by_relation ? s + 1 : t.node_ptr[i + 1];
      find_scores(t, i, s, s1, x);
      find_weights(t, x);
      grad_of_weights(t, i, s, s1, x);
      grad_of_beta(t, x);
      if (has_lam(t)) grad_of_lam(t, t.run_ptr[s], x);
      grad_of_scores(t, x);
      scatter(t, i, s, s1, x, grads);
    }
}

// The caller's thread takes a part too. No OpenMP: a second run-time beside torch's would spin.
void run(const Task& t, void (*part)(const Task&, int)) {
  std::vector<std::thread> others;
  for (int i = 1; i < t.n_threads; i++) others.emplace_back(part, std::cref(t), i);
  part(t, 0);
  for (auto& other : others) other.join();
}

}  // namespace

// Channels whose heads share a register
extern "C" int32_t channels() { return C; }
extern "C" void forward(const Task* t) { run(*t, forward_nodes); }
extern "C" void backward(const Task* t) { run(*t, backward_nodes); }
