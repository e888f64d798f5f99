#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include "batch_order.h"
#include "instruction_sets.h"
#include "pixel_rules.h"
#include "session.h"

namespace nb = nanobind;

namespace {

template <class T, size_t N>
using Array = nb::ndarray<T, nb::ndim<N>, nb::c_contig, nb::device::cpu>;

lanes::Plan plan_of(Array<const int32_t, 2> layers, int channels, int image_size, int optimizer, int batch_size,
                    bool dropout, bool variational) {
  if (layers.shape(1) != lanes::kColumnsOfLayer) throw std::invalid_argument("layers of another number of columns");
  return lanes::make_plan(layers.data(), int(layers.shape(0)), channels, image_size, optimizer, batch_size, dropout,
                          variational);
}

struct Data {  // keeps the arrays alive
  Array<const uint8_t, 2> images;
  Array<const uint8_t, 1> labels;
  Array<const float, 2> table;
  std::vector<lanes::PixelRule> rules;

  lanes::Images view() const {
    return {images.data(), labels.data(), table.data(), rules.empty() ? nullptr : rules.data(), long(images.shape(0))};
  }
};

class PySession : public lanes::Session {
 public:
  using lanes::Session::Session;

  void check(const Data& data) const {
    if (plan().steps) throw std::invalid_argument("image regression has functions of its own");
    check(data, plan().in_size(), plan().ops[0].in_c);
  }
  void check_learned(const Data& data) const {
    check(data, long(plan().num_classes) * plan().batch_size, plan().num_classes);
    if (num_images() > long(data.images.shape(0))) throw std::invalid_argument("a model learns an image that is not there");
  }
  void check_rows(const Data& data) const {
    if (largest_row() >= long(data.labels.shape(0))) throw std::invalid_argument("a row is outside the data");
  }
  void check_labels(const Data& data) const {
    if (num_labels() && num_labels() != long(data.labels.shape(0))) throw std::invalid_argument("labels of other data");
  }
  void check_models(size_t found) const {
    if (long(found) != num_models()) throw std::invalid_argument("an array has another number of models");
  }

 private:
  static void check(const Data& data, long image_size, int channels) {
    if (long(data.images.shape(1)) != image_size || data.labels.shape(0) != data.images.shape(0) ||
        long(data.table.shape(0)) != channels || data.table.shape(1) != 256)
      throw std::invalid_argument("the images do not fit the architecture");
  }
};

// The kernels of an instruction set. Throws std::invalid_argument where they cannot run.
const lanes::Kernels& available_kernels(const std::string& isa) {
  const lanes::Kernels* kernels = lanes::find_kernels(isa);
  if (!kernels) throw std::invalid_argument("instruction set " + isa + " is not available here");
  return *kernels;
}

}  // namespace

NB_MODULE(_lanes, m) {
  m.doc() = "Kernels of the lanes engine; zooforge.zoo_jobs.engines.lanes is the interface.";
#define LANES_NAME(enumerator, name) name,
  m.attr("LAYERS") = std::vector<std::string>{LANES_LAYERS(LANES_NAME)};
  m.attr("ACTIVATIONS") = std::vector<std::string>{LANES_ACTIVATIONS(LANES_NAME)};
  m.attr("OPTIMIZERS") = std::vector<std::string>{LANES_OPTIMIZERS(LANES_NAME)};
  m.attr("FIELDS") = std::vector<std::string>{LANES_FIELDS(LANES_NAME)};
#undef LANES_NAME
  m.attr("INTERFACE") = 3;
  m.attr("MAX_LAYERS") = lanes::kMaxOps;
  m.attr("LAYER_COLUMNS") = lanes::kColumnsOfLayer;
  m.def("available", &lanes::available);
  m.def("lanes_of", [](const std::string& isa) {
    const lanes::Kernels* k = lanes::find_kernels(isa);
    return k ? k->lanes : 0;
  });
  m.def("name_of", [](const std::string& isa) {
    const lanes::Kernels* k = lanes::find_kernels(isa);
    return std::string(k ? k->name : "");
  });
  m.def("peak", [](const std::string& isa, double seconds) {
    const lanes::Kernels& kernels = available_kernels(isa);
    nb::gil_scoped_release release;
    return kernels.peak(seconds);
  });
  m.def("function", [](const std::string& isa, const std::string& name, Array<const float, 1> x, Array<float, 1> y) {
    if (x.shape(0) != y.shape(0)) throw std::invalid_argument("arrays of different lengths");
    available_kernels(isa).function(name.c_str(), x.data(), y.data(), long(x.shape(0)));
  });
  m.def("noise", [](const std::string& isa, uint32_t seed, uint32_t step, uint32_t epoch, int layer, uint32_t sample,
                    Array<float, 1> out) {
    available_kernels(isa).noise(seed, step, epoch, layer, sample, long(out.shape(0)), out.data());
  });
  m.def("has_pixel_rules", [](Array<const float, 2> table) {
    return !lanes::pixel_rules(table.data(), int(table.shape(0))).empty();
  });
  m.def("batch_order", [](uint32_t seed, int epoch, Array<uint32_t, 1> order) {
    std::vector<uint64_t> scratch(2 * order.shape(0));
    lanes::batch_order(seed, epoch, long(order.shape(0)), order.data(), scratch.data());
  });
  m.def("memory", [](Array<const int32_t, 2> layers, int channels, int image_size, int optimizer, int batch_size,
                     bool dropout, bool variational, const std::string& isa, long num_models, long num_rows) {
    size_t state, work;
    lanes::Session::memory(
        plan_of(layers, channels, image_size, optimizer, batch_size, dropout, variational), isa, num_models, num_rows,
        state, work);
    return std::vector<size_t>{state, work};
  });

  nb::class_<Data>(m, "Data").def(
      "__init__", [](Data* self, Array<const uint8_t, 2> images, Array<const uint8_t, 1> labels,
                     Array<const float, 2> table) {
        if (table.shape(1) != 256) throw std::invalid_argument("the table of pixel values must have 256 columns");
        new (self) Data{images, labels, table, lanes::pixel_rules(table.data(), int(table.shape(0)))};
      });

  nb::class_<PySession>(m, "Session")
      .def("__init__",
           [](PySession* self, Array<const int32_t, 2> layers, int channels, int image_size, int optimizer,
              int batch_size, bool dropout, bool variational, const std::string& isa, Array<const uint32_t, 1> seed,
              Array<const double, 1> learning_rate, Array<const double, 1> weight_decay,
              Array<const double, 1> momentum, Array<const uint8_t, 1> nesterov,
              Array<const double, 1> dropout_ratio) {
             const size_t models = seed.shape(0);
             for (const size_t n : {learning_rate.shape(0), weight_decay.shape(0), momentum.shape(0),
                                    nesterov.shape(0), dropout_ratio.shape(0)})
               if (n != models) throw std::invalid_argument("hyperparameters of different lengths");
             new (self) PySession(
                 plan_of(layers, channels, image_size, optimizer, batch_size, dropout, variational), isa, int(models),
                 {seed.data(), learning_rate.data(), weight_decay.data(), momentum.data(), nesterov.data(),
                  dropout_ratio.data()});
           })
      .def("field_size", &PySession::field_size)
      .def("put",
           [](PySession& self, int field, Array<const float, 2> values) {
             self.check_models(values.shape(0));
             if (long(values.shape(1)) != self.field_size(field)) throw std::invalid_argument("size of a state field");
             self.put(field, values.data());
           })
      .def("get",
           [](const PySession& self, int field, Array<float, 2> values) {
             self.check_models(values.shape(0));
             if (long(values.shape(1)) != self.field_size(field)) throw std::invalid_argument("size of a state field");
             self.get(field, values.data());
           })
      .def("put_pruned",
           [](PySession& self, Array<const uint8_t, 2> pruned) {
             self.check_models(pruned.shape(0));
             if (long(pruned.shape(1)) != self.plan().num_params) throw std::invalid_argument("size of the mask");
             self.put_pruned(pruned.data());
           })
      .def("put_double",
           [](PySession& self, Array<const double, 2> values) {
             self.check_models(values.shape(0));
             self.put_double(values.data());
           })
      .def("put_images",
           [](PySession& self, Array<const int64_t, 1> rows, Array<const float, 2> coordinates) {
             self.check_models(rows.shape(0));
             const lanes::Plan& plan = self.plan();
             if (long(coordinates.shape(0)) != plan.batch_size || long(coordinates.shape(1)) != plan.in_size())
               throw std::invalid_argument("size of the coordinates");
             self.put_images(rows.data(), coordinates.data());
           })
      .def("put_rows",
           [](PySession& self, const std::vector<Array<const uint32_t, 1>>& rows) {
             self.check_models(rows.size());
             std::vector<std::vector<uint32_t>> copies;
             for (const auto& own : rows) copies.emplace_back(own.data(), own.data() + own.shape(0));
             self.put_rows(std::move(copies));
           })
      .def("put_labels",
           [](PySession& self, const Data& data, Array<const uint8_t, 2> labels) {
             self.check_models(labels.shape(0));
             const size_t rows = data.labels.shape(0);
             if (labels.shape(1) != rows) throw std::invalid_argument("labels of another number of rows");
             std::vector<std::vector<uint8_t>> copies;
             for (size_t i = 0; i < labels.shape(0); ++i)
               copies.emplace_back(labels.data() + i * rows, labels.data() + (i + 1) * rows);
             self.put_labels(std::move(copies));
           })
      .def("spare_biases", [](PySession& self) { self.spare_biases(); })
      .def("put_steps",
           [](PySession& self, Array<const int64_t, 1> steps) {
             self.check_models(steps.shape(0));
             self.put_steps(steps.data());
           })
      .def("get_steps",
           [](const PySession& self, Array<int64_t, 1> steps) {
             self.check_models(steps.shape(0));
             self.get_steps(steps.data());
           })
      .def("train_epoch",
           [](PySession& self, const Data& data, int epoch, double kl_weight, Array<const uint8_t, 1> active,
              Array<double, 1> loss, Array<int32_t, 1> correct) {
             self.check(data);
             self.check_rows(data);
             self.check_labels(data);
             for (const size_t n : {active.shape(0), loss.shape(0), correct.shape(0)}) self.check_models(n);
             nb::gil_scoped_release release;
             self.train_epoch(data.view(), epoch, kl_weight, active.data(), loss.data(), correct.data());
           })
      .def("evaluate",
           [](PySession& self, const Data& data, Array<double, 1> loss, Array<int32_t, 1> correct,
              Array<int32_t, 2> class_correct, Array<int32_t, 2> class_predicted, bool own) {
             self.check(data);
             if (own) self.check_rows(data);
             for (const size_t n : {loss.shape(0), correct.shape(0), class_correct.shape(0), class_predicted.shape(0)})
               self.check_models(n);
             for (const size_t n : {class_correct.shape(1), class_predicted.shape(1)})
               if (long(n) != self.plan().num_classes) throw std::invalid_argument("counts of another number of classes");
             nb::gil_scoped_release release;
             self.evaluate(data.view(), loss.data(), correct.data(), class_correct.data(), class_predicted.data(),
                           own);
           },
           nb::arg("data"), nb::arg("loss"), nb::arg("correct"), nb::arg("class_correct"), nb::arg("class_predicted"),
           nb::arg("own") = false)
      .def("fit",
           [](PySession& self, const Data& data, Array<const uint8_t, 1> active, Array<double, 1> loss) {
             self.check_learned(data);
             for (const size_t n : {active.shape(0), loss.shape(0)}) self.check_models(n);
             nb::gil_scoped_release release;
             self.fit(data.view(), active.data(), loss.data());
           })
      .def("errors",
           [](const PySession& self, const Data& data, Array<double, 1> loss) {
             self.check_learned(data);
             self.check_models(loss.shape(0));
             nb::gil_scoped_release release;
             self.errors(data.view(), loss.data());
           })
      .def("fit_gradient",
           [](const PySession& self, const Data& data, Array<double, 1> loss, Array<double, 2> gradient) {
             self.check_learned(data);
             for (const size_t n : {loss.shape(0), gradient.shape(0)}) self.check_models(n);
             if (long(gradient.shape(1)) != self.plan().num_params) throw std::invalid_argument("size of the gradient");
             self.fit_gradient(data.view(), loss.data(), gradient.data());
           })
      .def("sparsity",
           [](PySession& self, Array<double, 1> kl, Array<int32_t, 1> pruned, Array<uint8_t, 2> mask) {
             for (const size_t n : {kl.shape(0), pruned.shape(0), mask.shape(0)}) self.check_models(n);
             if (long(mask.shape(1)) != self.plan().num_variances) throw std::invalid_argument("size of the mask");
             self.sparsity(kl.data(), pruned.data(), mask.data());
           })
      .def("gradient", [](PySession& self, const Data& data, Array<const uint32_t, 2> rows, int step, int epoch,
                          double kl_weight, Array<double, 1> loss, Array<double, 2> gradient) {
        self.check(data);
        for (const size_t n : {rows.shape(0), loss.shape(0), gradient.shape(0)}) self.check_models(n);
        if (long(gradient.shape(1)) != self.plan().num_trained()) throw std::invalid_argument("size of the gradient");
        for (size_t i = 0; i < rows.size(); ++i)
          if (rows.data()[i] >= data.labels.shape(0)) throw std::invalid_argument("a row is outside the data");
        self.gradient(data.view(), rows.data(), int(rows.shape(1)), step, epoch, kl_weight, loss.data(),
                      gradient.data());
      });
}
